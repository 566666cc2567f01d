//! `usher dns respond`: bootstrap servers and artefacts by multicast DNS.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::{Format, Outcome};
use pki::Coded;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use sztp::dhcp::BootstrapUri;
use sztp::dns::{self, Artefacts, MDNS_MESSAGE_MAX_BYTES, MULTICAST_PORT, Responder};
use sztp::usb::{ARTEFACT_MAX_BYTES, Artefact, Layout};
use tokio::net::UdpSocket;

/// The group of multicast DNS.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// Most devices that are served.
const DEVICES_MAX: usize = 100_000;

/// Options of `usher dns respond`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A bootstrap server, https://host[:port], in the order in which devices try them.
    #[arg(long, value_name = "URI")]
    server: Vec<BootstrapUri>,
    /// Address of a server whose name ends in .local.
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = host)]
    host: Vec<(String, IpAddr)>,
    /// Folder that `usher bootstrap usb export` wrote: its devices are served their artefacts.
    #[arg(long, value_name = "DIR", requires = "vendor")]
    usb: Option<PathBuf>,
    /// The vendor's folder in it.
    #[arg(long, value_name = "NAME", requires = "usb")]
    vendor: Option<String>,
    /// IPv4 address of the interface on which to answer.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    interface: Ipv4Addr,
    /// Stop after this many seconds; without it, when told to.
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<u64>,
    #[command(flatten)]
    format: Format,
}

fn host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text
        .split_once('=')
        .ok_or_else(|| "NAME=ADDRESS is wanted".to_owned())?;
    let address = address
        .parse()
        .map_err(|_| format!("{address:?} is no IP address"))?;
    Ok((name.trim_end_matches('.').to_ascii_lowercase(), address))
}

/// Answers until it is told to stop.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let format = arguments.format;
    let responder = match arguments.responder() {
        Ok(responder) => responder,
        Err(error) => {
            format.error(&error);
            return Outcome::No;
        }
    };
    if arguments.server.is_empty() && arguments.usb.is_none() {
        return format.problem("config.usage", "there is nothing to answer with");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| runtime.block_on(arguments.serve(&responder)));
    match served {
        Ok(answered) => {
            format.print(&json!({ "ok": true, "answered": answered }), |_| {
                format!("{answered} questions answered")
            });
            Outcome::Yes
        }
        Err(error) => format.problem(
            "dns.responder",
            &format!("no multicast DNS on {}: {error}", arguments.interface),
        ),
    }
}

impl Arguments {
    fn responder(&self) -> Result<Responder, dns::Error> {
        let mut responder = Responder::new();
        for server in &self.server {
            let name = server.address();
            let name = name.trim_end_matches('.');
            let addresses: Vec<_> = self
                .host
                .iter()
                .filter(|(known, _)| known == name)
                .map(|(_, address)| *address)
                .collect();
            responder.announce(server, &addresses)?;
        }
        if let (Some(folder), Some(vendor)) = (&self.usb, &self.vendor) {
            serve_stick(&mut responder, folder, vendor)?;
        }
        Ok(responder)
    }

    async fn serve(&self, responder: &Responder) -> io::Result<u64> {
        let socket = self.socket()?;
        let mut stop = daemon_stop(self.time_limit)?;
        let mut answered = 0;
        let mut buffer = vec![0; MDNS_MESSAGE_MAX_BYTES];
        loop {
            let (size, from) = tokio::select! {
                () = &mut stop => return Ok(answered),
                // One datagram that cannot be received does not end the service.
                received = socket.recv_from(&mut buffer) => match received {
                    Ok(received) => received,
                    Err(_) => continue,
                },
            };
            let question = buffer.get(..size).unwrap_or_default();
            let Some(answer) = responder.answer(question, from.port()) else {
                continue;
            };
            let to = if answer.unicast {
                from
            } else {
                SocketAddr::from((GROUP, MULTICAST_PORT))
            };
            // One that cannot be reached does not end the service either.
            if socket.send_to(&answer.message, to).await.is_ok() {
                answered += 1;
            }
        }
    }

    /// The port of multicast DNS, which others on this machine may have too.
    fn socket(&self) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, MULTICAST_PORT)).into())?;
        socket.join_multicast_v4(&GROUP, &self.interface)?;
        socket.set_multicast_if_v4(&self.interface)?;
        // SZTP over multicast DNS stays on the link, as all of it does (RFC 6762 section 11).
        socket.set_multicast_ttl_v4(255)?;
        UdpSocket::from_std(socket.into())
    }
}

/// Ends with the time limit or with a signal to stop.
fn daemon_stop(
    seconds: Option<u64>,
) -> io::Result<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(Box::pin(async move {
        let limit = async {
            match seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = limit => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }))
}

/// Takes the devices of a folder. One whose artefacts do not fit into a datagram is named on
/// standard error; it finds the servers instead.
fn serve_stick(responder: &mut Responder, folder: &Path, vendor: &str) -> Result<(), dns::Error> {
    let usb_error = |error: sztp::usb::Error| dns::Error::Name {
        name: vendor.to_owned(),
        reason: match error.code() {
            "usb.name" => "it is no name of a folder",
            _ => "it cannot be used",
        },
    };
    let layout = Layout::general(vendor).map_err(usb_error)?;
    // The folder above those of the devices.
    let probe = layout.folder("probe").map_err(usb_error)?;
    let above = folder.join(probe.parent().unwrap_or(&probe));
    let entries = fs::read_dir(above).into_iter().flatten().flatten();
    for entry in entries.take(DEVICES_MAX) {
        let path = entry.path().join("conveyed-information.cms");
        let relative = path.strip_prefix(folder).unwrap_or(&path);
        let Some((serial, Artefact::ConveyedInformation)) = layout.recognise(relative) else {
            continue;
        };
        let read = |artefact| {
            let candidates = layout.candidates(&serial, artefact).unwrap_or_default();
            candidates.iter().find_map(|path| {
                let path = folder.join(path);
                let size = fs::metadata(&path).ok()?.len();
                if size > ARTEFACT_MAX_BYTES {
                    return None;
                }
                fs::read(path).ok()
            })
        };
        let artefacts = Artefacts {
            conveyed_information: read(Artefact::ConveyedInformation),
            owner_certificate: read(Artefact::OwnerCertificate),
            ownership_voucher: read(Artefact::OwnershipVoucher),
        };
        if let Err(error) = responder.serve(&serial, &artefacts) {
            eprintln!("{serial} is not served: {error} [{}]", error.code());
        }
    }
    Ok(())
}
