//! Networks of namespaces: a row of routers between a source and a target, and what one does to them.
//!
//! A namespace lives as long as a process in it that reads from us: also when this program is killed, it
//! reads the end and is gone, and its cables with it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread;

/// A namespace.
pub(crate) struct Node {
    child: Child,
    _life: ChildStdin,
}

impl Node {
    pub(crate) fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let life = child.stdin.take().expect("piped");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it lives");
        assert_eq!(line, "ready\n", "no namespace");
        Self { child, _life: life }
    }

    /// The process that keeps it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A command in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid().to_string(), "-n", program]);
        command
    }

    /// Runs a script in it, which must succeed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.command("sh").args(["-ec", script]).output();
        let output = output.expect("nsenter runs");
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Loads rules of nftables.
    pub(crate) fn nft(&self, rules: &str) {
        let mut child = self
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft runs");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(rules.as_bytes()).expect("nft reads");
        drop(input);
        assert!(child.wait().expect("it ends").success(), "{rules}");
    }

    /// How many packets a named counter has counted.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let text = self.sh(&format!("nft -j list counter ip t {name}"));
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let found = json["nftables"].as_array().expect("a list").iter();
        let mut counters = found.filter_map(|entry| entry["counter"]["packets"].as_u64());
        counters.next().expect("the counter")
    }

    /// Does something on a thread in it.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.pid());
        let file = std::fs::File::open(path).expect("it lives");
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How much ICMP the routers send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// As much as is asked for.
    Lifted,
    /// As Linux does: one answer a second for each that asks, six saved up.
    Usual,
}

/// A source, routers, and a target that has 10.99.0.0/16 besides its own addresses.
pub(crate) struct Chain {
    /// From the source on.
    pub(crate) nodes: Vec<Node>,
}

impl Chain {
    /// With so many routers. The cable after node `i` is `right` there, `left` on the other end, with
    /// 10.0.i.1 and 10.0.i.2, fd00:i::1 and fd00:i::2.
    pub(crate) fn new(routers: usize, limits: Limits) -> Self {
        let nodes: Vec<Node> = (0..routers + 2).map(|_| Node::new()).collect();
        for (at, pair) in nodes.windows(2).enumerate() {
            cable(
                &pair[0],
                "right",
                &pair[1],
                "left",
                &format!("0.{at}"),
                &format!("{at:x}"),
            );
        }
        for (at, node) in nodes.iter().enumerate() {
            let mut script = String::from(
                "ip link set lo up; cd /proc/sys/net; echo 1 >ipv4/ip_forward; \
                 echo 0 >ipv4/conf/all/rp_filter; echo 1 >ipv6/conf/all/forwarding; \
                 for dev in ipv4/conf/*; do echo 0 >$dev/rp_filter; done;",
            );
            if limits == Limits::Lifted {
                script += "echo 0 >ipv4/icmp_ratelimit; echo 0 >ipv6/icmp/ratelimit; \
                    echo 1000000 >ipv4/icmp_msgs_per_sec; echo 100000 >ipv4/icmp_msgs_burst;";
            }
            if at <= routers {
                script += &format!(
                    "ip route add default via 10.0.{at}.2; ip -6 route add default via fd00:{at:x}::2;"
                );
            } else {
                script += "ip route add local 10.99.0.0/16 dev lo;";
            }
            if at >= 2 {
                let left = at - 1;
                script += &format!(
                    "ip route add 10.0.0.0/24 via 10.0.{left}.1; \
                     ip -6 route add fd00:0::/64 via fd00:{left:x}::1;"
                );
            }
            node.sh(&script);
        }
        Self { nodes }
    }

    pub(crate) fn source(&self) -> &Node {
        &self.nodes[0]
    }

    /// The target's own address.
    pub(crate) fn target(&self) -> String {
        format!("10.0.{}.2", self.nodes.len() - 2)
    }

    /// Who answers, row by row, the target last.
    pub(crate) fn path(&self) -> Vec<String> {
        let cables = 0..self.nodes.len() - 1;
        cables.map(|at| format!("10.0.{at}.2")).collect()
    }
}

/// Lays a cable and gives its ends addresses: 10.NET.1 and 10.NET.2, fd00:NET6::1 and ::2.
pub(crate) fn cable(near: &Node, name: &str, far: &Node, far_name: &str, net: &str, net6: &str) {
    let output = Command::new("ip")
        .args(["link", "add", name, "netns", &near.pid().to_string()])
        .args(["type", "veth", "peer", "name", far_name])
        .args(["netns", &far.pid().to_string()])
        .output()
        .expect("ip runs");
    assert!(output.status.success(), "{output:?}");
    for (node, name, end) in [(near, name, 1), (far, far_name, 2)] {
        node.sh(&format!(
            "ip addr add 10.{net}.{end}/24 dev {name}; \
             ip -6 addr add fd00:{net6}::{end}/64 dev {name} nodad; \
             ip link set {name} up"
        ));
    }
}

/// Whether there can be no such networks here; says so aloud.
pub(crate) fn cannot_run() -> bool {
    let tried = |program: &str, words: &[&str]| -> Result<Output, String> {
        let output = Command::new(program).args(words).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        match output.status.success() {
            true => Ok(output),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    };
    let veth = ["-n", "ip", "link", "add", "a0", "type", "veth"];
    let outcome = tried("unshare", &veth).and_then(|_| tried("nft", &["--version"]));
    let Err(reason) = outcome else {
        return false;
    };
    // Past the capture of the test harness: a skip must be seen.
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED: no network namespaces with veth and nft here: {reason}"
    );
    true
}
