//! Four hosts: pledges with link-local addresses only, a proxy with two legs, a router, and a
//! registrar beyond it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the guardian shell does. The end of its standard input means that the test is over, or
/// died; then whatever still runs inside is ended and the hosts are gone.
const GUARDIAN: &str = r#"
set -e
pledge=$1 proxy=$2 router=$3 registrar=$4
undo() {
    for host in $pledge $proxy $router $registrar; do
        for pid in $(ip netns pids $host 2>/dev/null); do kill -9 $pid 2>/dev/null || true; done
        ip netns del $host 2>/dev/null || true
    done
}
trap undo EXIT
for host in $pledge $proxy $router $registrar; do
    ip netns add $host
    ip netns exec $host sh -c 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad'
    ip -n $host link set lo up
done
ip -n $proxy link add radio0 type veth peer name eth0 netns $pledge
ip -n $proxy link add up0 type veth peer name down0 netns $router
ip -n $router link add up0 type veth peer name eth0 netns $registrar
ip -n $pledge link set eth0 addrgenmode none
ip -n $proxy link set radio0 addrgenmode none
ip -n $pledge link set eth0 up
ip -n $proxy link set radio0 up
ip -n $proxy link set up0 up
ip -n $router link set down0 up
ip -n $router link set up0 up
ip -n $registrar link set eth0 up
for number in a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac; do
    ip -n $pledge addr add fe80::$number/64 dev eth0 nodad
done
ip -n $pledge addr add 2001:db8:9::a1/64 dev eth0 nodad
ip -n $proxy addr add fe80::1/64 dev radio0 nodad
ip -n $proxy addr add 2001:db8:9::1/64 dev radio0 nodad
ip -n $proxy addr add 2001:db8:1::2/64 dev up0 nodad
ip -n $router addr add 2001:db8:1::1/64 dev down0 nodad
ip -n $router addr add 2001:db8:2::1/64 dev up0 nodad
ip -n $registrar addr add 2001:db8:2::2/64 dev eth0 nodad
ip netns exec $router sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
ip -n $proxy route add default via 2001:db8:1::1
ip -n $registrar route add default via 2001:db8:2::1
echo ready
cat >/dev/null || true
"#;

/// One of the hosts.
#[derive(Clone, Copy)]
pub(crate) enum Host {
    Pledge,
    Proxy,
    Router,
    Registrar,
}

/// The hosts; they are gone with the value.
pub(crate) struct Hosts {
    guardian: Child,
    names: [String; 4],
}

impl Hosts {
    /// Makes the hosts. Without the right to do that it says so on standard error.
    pub(crate) fn for_test(name: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("{name} is NOT RUN: network namespaces need root (try `sudo -E cargo test`)");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let names = ["p", "j", "r", "s"].map(|host| format!("ushp{host}{id}x{number}"));
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "sh"])
            .args(&names)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = guardian.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        if line.trim() != "ready" {
            let mut reason = String::new();
            let mut errors = guardian.stderr.take().unwrap();
            errors.read_to_string(&mut reason).unwrap();
            panic!("no network namespaces: {reason}");
        }
        Some(Self { guardian, names })
    }

    fn name(&self, host: Host) -> &str {
        &self.names[host as usize]
    }

    /// Does something on a host. Sockets that are opened there stay there.
    pub(crate) fn on<T: Send>(&self, host: Host, work: impl FnOnce() -> T + Send) -> T {
        let place = File::open(format!("/run/netns/{}", self.name(host))).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// A command on a host.
    pub(crate) fn command(&self, host: Host, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.name(host)])
            .arg(program);
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        // Nothing is left to do if the guardian is gone already.
        let _ = self.guardian.wait();
    }
}
