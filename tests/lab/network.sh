#!/usr/bin/env bash
# What the sub-agents for the network need is real here: 802.1Q, netem, and a PPPoE session with CHAP
# over a VLAN, dialled by the kernel-mode pppd.
# shellcheck source=lib.sh
. /usr/lib/lab/lib.sh

clean_up() {
    pkill -x pppd || true
    pkill -x pppoe-server || true
    ip netns delete bras 2>/dev/null || true
    ip link delete c0 2>/dev/null || true
}

session_is_up() { ip -br address show dev ppp7 | grep -q 10.9.0; }
round_trip_is_delayed() {
    ping -c 3 -i 0.3 -W 5 10.9.0.1 | awk -F/ '/^rtt/ { slow = $5 >= 40 } END { exit !slow }'
}

clean_up
modprobe -a 8021q pppoe sch_netem
ip netns add bras
ip link add c0 type veth peer name b0 netns bras
ip link set c0 up
ip -n bras link set b0 up
ip -n bras link set lo up
ip link add link c0 name c0.101 type vlan id 101
ip -n bras link add link b0 name b0.101 type vlan id 101
ip link set c0.101 up
ip -n bras link set b0.101 up

say 'a PPPoE server behind the VLAN that asks for CHAP'
mkdir -p /etc/ppp
printf '"u1" * "p1" *\n' >/etc/ppp/chap-secrets
printf 'require-chap\nlcp-echo-interval 10\nlcp-echo-failure 2\n' >/etc/ppp/pppoe-server-options
ip netns exec bras pppoe-server -I b0.101 -L 10.9.0.1 -R 10.9.0.10 -N 50 -C lab
setsid pppd plugin rp-pppoe.so nic-c0.101 user u1 password p1 noauth nodefaultroute ifname ppp7 nodetach \
    >/run/lab/pppd.log 2>&1 &
soon session_is_up
grep 'CHAP authentication succeeded' /run/lab/pppd.log
soon ping -c 1 -W 5 10.9.0.1

say 'netem delays the line'
tc qdisc add dev c0 root netem delay 40ms
check round_trip_is_delayed

say 'a wrong password is refused'
pkill -x pppd
soon not session_is_up
check not timeout 60 pppd plugin rp-pppoe.so nic-c0.101 user u1 password wrong noauth nodefaultroute \
    ifname ppp8 nodetach
clean_up
