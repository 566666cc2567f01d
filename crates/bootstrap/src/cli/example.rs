//! The example of content that `init` puts into the new folder.

use crate::Error;
use daemon::folder::Folder;

const CONTENT: &str = r#"# What devices get. `usher bootstrap apply content --dry-run` says what is wrong with it, and
# `usher bootstrap apply content` makes it what is served.

# Variables of all devices; `devices set SN --var NAME=VALUE` and the columns var.NAME of a device
# file give those of one device.
[variables]
domain = "example.net"
ntp = ["192.0.2.123"]

# [[image]]
# name = "os-2"
# os-name = "Example OS"
# os-version = "2.0"
# file = "images/os-2.bin"        # its hash is computed from it
# host = true                     # hosted here; or instead:  uri = "https://images.example.net/os-2.bin"

[[script]]
name = "greet"
file = "scripts/greet.sh"

[[template]]
name = "base"
file = "templates/base.xml.j2"

[[bundle]]
name = "base"
version = "1"
# image = "os-2"
pre-script = "greet"
template = "base"
handling = "merge"

# The first rule that matches decides.
[[rule]]
name = "everybody"
bundle = "base"
"#;

const SCRIPT: &str = "#!/bin/sh\necho 'bootstrapping begins'\n";

const TEMPLATE: &str = r#"<system xmlns="urn:ietf:params:xml:ns:yang:ietf-system">
  <hostname>{{ vars.hostname }}.{{ vars.domain }}</hostname>
  <ntp>
    {%- for server in vars.ntp %}
    <server><name>{{ server }}</name><udp><address>{{ server }}</address></udp></server>
    {%- endfor %}
  </ntp>
</system>
"#;

/// Without this, devices that do not trust the server would take their data and never report.
fn promotion(host: &str, port: u16) -> String {
    format!(
        r#"
# A device that does not trust this server yet is sent here once more, with the trust anchor that it
# needs, and then reports how it gets on.
[[redirect]]
name = "us"

  [[redirect.server]]
  address = "{host}"
  port = {port}
  trust-anchor = "server-ca.pem"

[promotion]
redirect = "us"
"#
    )
}

/// Writes the example. `host` and `port` are where devices reach this server, and `server_ca` is
/// the PEM of what they have to trust there.
pub(crate) fn write(folder: &Folder, host: &str, port: u16, server_ca: &str) -> Result<(), Error> {
    for name in [
        "content",
        "content/templates",
        "content/scripts",
        "content/images",
    ] {
        folder.folder(name)?;
    }
    let mut content = CONTENT.to_owned();
    // A port that is chosen when the server starts cannot be announced.
    if port != 0 {
        content.push_str(&promotion(host, port));
        folder.write("content/server-ca.pem", server_ca.as_bytes(), 0o644)?;
    }
    folder.write("content/content.toml", content.as_bytes(), 0o644)?;
    folder.write("content/scripts/greet.sh", SCRIPT.as_bytes(), 0o644)?;
    folder.write("content/templates/base.xml.j2", TEMPLATE.as_bytes(), 0o644)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::content::load;

    #[test]
    fn the_example_has_no_mistake() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path();
        let options = testkit::PkiOptions::new(testkit::NOW);
        let ca = testkit::root(&options, "CN=Server CA").unwrap().chain[0].to_pem();
        let content = format!("{}{}", super::CONTENT, super::promotion("ztp.test", 9543));
        for (name, text) in [
            ("content.toml", content.as_str()),
            ("server-ca.pem", ca.as_str()),
            ("scripts/greet.sh", super::SCRIPT),
            ("templates/base.xml.j2", super::TEMPLATE),
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let folder = load::load(root);
        assert!(folder.findings.is_empty(), "{:?}", folder.findings);
    }
}
