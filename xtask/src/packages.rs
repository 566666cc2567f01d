//! The outside programs that tests hold the product against, installed where that is possible.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// One Debian package and a file that shows it is there.
struct Package {
    name: &'static str,
    /// Any one of these paths proves it; a `*` stands for one folder of any name.
    proof: &'static [&'static str],
    why: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "openssl",
        proof: &["/usr/bin/openssl"],
        why: "checks what we sign",
    },
    Package {
        name: "curl",
        proof: &["/usr/bin/curl"],
        why: "a client that is not ours",
    },
    Package {
        name: "libcoap3-bin",
        proof: &["/usr/bin/coap-client-openssl"],
        why: "CoAP clients that are not ours",
    },
    Package {
        name: "softhsm2",
        proof: &[
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib/*/softhsm/libsofthsm2.so",
        ],
        why: "PKCS#11 keys",
    },
    Package {
        name: "postgresql",
        proof: &["/usr/lib/postgresql/*/bin/initdb"],
        why: "the second database",
    },
    Package {
        name: "strongswan-pki",
        proof: &["/usr/bin/pki"],
        why: "an EST client that is not ours",
    },
    Package {
        name: "libstrongswan-extra-plugins",
        proof: &["/usr/lib/ipsec/plugins/libstrongswan-curl.so"],
        why: "lets strongSwan's pki speak HTTPS",
    },
    Package {
        name: "libyang2-tools",
        proof: &["/usr/bin/yanglint"],
        why: "validates RESTCONF messages and configurations against YANG modules",
    },
    Package {
        name: "iproute2",
        proof: &["/usr/sbin/ip", "/sbin/ip"],
        why: "network namespaces for DHCP and DNS servers",
    },
    Package {
        name: "dnsmasq-base",
        proof: &["/usr/sbin/dnsmasq"],
        why: "a DHCP and DNS server that is not ours",
    },
    Package {
        name: "kea-dhcp4-server",
        proof: &["/usr/sbin/kea-dhcp4"],
        why: "takes our snippets and hands out DHCPv4 options",
    },
    Package {
        name: "kea-dhcp6-server",
        proof: &["/usr/sbin/kea-dhcp6"],
        why: "takes our snippets and hands out DHCPv6 options",
    },
    Package {
        name: "isc-dhcp-server",
        proof: &["/usr/sbin/dhcpd"],
        why: "takes our snippets",
    },
    Package {
        name: "isc-dhcp-client",
        proof: &["/usr/sbin/dhclient", "/sbin/dhclient"],
        why: "a DHCP client whose lease files the device reads",
    },
    Package {
        name: "udhcpc",
        proof: &["/usr/sbin/udhcpc", "/sbin/udhcpc"],
        why: "the DHCP client of small devices",
    },
    Package {
        name: "knot",
        proof: &["/usr/sbin/knotd"],
        why: "a DNS server that serves our zone files",
    },
    Package {
        name: "chromium",
        proof: &["/usr/bin/chromium"],
        why: "shows the pages that we write",
    },
    Package {
        name: "python3",
        proof: &["/usr/bin/python3", "/usr/local/bin/python3"],
        why: "reads JUnit, SVG and zip files that we write",
    },
    Package {
        name: "openssh-client",
        proof: &["/usr/bin/ssh-keygen"],
        why: "reads the known_hosts that we hand over",
    },
    Package {
        name: "ansible-core",
        proof: &["/usr/bin/ansible-inventory"],
        why: "reads the inventories that we hand over",
    },
];

/// Installs the missing packages when run as root on a machine with apt, and else names them.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<&Package> = PACKAGES
        .iter()
        .filter(|package| !present(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        eprintln!("missing package {}: {}", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!("install these packages and run again: {}", names.join(" "));
    }
    apt(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&names);
    let quiet = NoDaemons::new();
    apt(&install)?;
    drop(quiet);
    match PACKAGES.iter().find(|package| !present(package)) {
        Some(package) => bail!(
            "apt installed {} but it is not where it is looked for",
            package.name
        ),
        None => Ok(()),
    }
}

/// While this lives, Debian's packages start no servers: tests start their own, and nobody who
/// runs them wants a DHCP server on the network.
struct NoDaemons {
    made: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoDaemons {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        // A policy that is there already is the machine's own.
        let made = !Path::new(POLICY).exists()
            && std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").is_ok()
            && std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755)).is_ok();
        Self { made }
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.made {
            // It stays if it cannot be removed; apt then goes on starting nothing.
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

fn present(package: &Package) -> bool {
    package.proof.iter().any(|path| exists(path))
}

fn exists(pattern: &str) -> bool {
    let Some((before, after)) = pattern.split_once("/*/") else {
        return Path::new(pattern).exists();
    };
    std::fs::read_dir(before)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.path().join(after).exists())
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("apt-get did not start")?;
    if !status.success() {
        bail!("apt-get {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
