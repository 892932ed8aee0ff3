/* The child of the benchmarks, as small as a process can be, so that what is measured is the supervisor.
 *
 *   idle FIFO            says by one byte that it runs, and rests
 *   idle FIFO MS CODE    ends with CODE after MS milliseconds
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words) {
    int began = count > 1 ? open(words[1], O_WRONLY) : -1;
    if (began < 0 || write(began, "r", 1) != 1)
        return 99;
    close(began);
    if (count > 3) {
        usleep(1000 * atoi(words[2]));
        return atoi(words[3]);
    }
    for (;;)
        pause();
}
