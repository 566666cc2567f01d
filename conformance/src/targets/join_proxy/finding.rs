//! How the proxy finds its registrar: the suite answers its questions.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use tokio::{net::UdpSocket, sync::watch, task::AbortHandle, time::timeout};

use super::{FINDING_TIME, JoinProxy};
use crate::{
    case::Case,
    coaps_message::{ACK, CON, Code, Message, NON, option},
    evidence::Recorder,
    outcome::{Finding, Told, must},
    profile::Profile,
};

/// application/link-format.
const LINK_FORMAT: u8 = 40;

/// What the suite offers as a registrar, and who asked.
pub(super) struct Offers {
    both: bool,
    asked: Arc<Mutex<Vec<Message>>>,
    count: watch::Receiver<usize>,
    task: AbortHandle,
}

impl Drop for Offers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Offers {
    /// Answers from now on.
    pub(super) fn serve(profile: &Profile) -> Result<Self> {
        let port = |name: &str| -> Result<u16> {
            let address: SocketAddr = profile.needed(name)?.parse().context(name.to_owned())?;
            Ok(address.port())
        };
        let host = profile.needed("suite_address")?;
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let both = profile.text("offer") != Some("coaps");
        // A link without a port, which is invalid, and one with a path, which means nothing.
        let jpy = format!(
            "<jpy://{host}>;rt=brski.rjp,<jpy://{host}:{}/ignored/path>;rt=\"brski.rjp\"",
            port("jpy_listen")?
        );
        let coaps = format!(
            "</elsewhere>;rt=other,<coaps://{host}:{}/an/odd/path>;rt=\"brski\"",
            port("coaps_listen")?
        );
        let listen = profile.needed("discovery_listen")?;
        let socket = std::net::UdpSocket::bind(listen).with_context(|| listen.to_owned())?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (tell, count) = watch::channel(0);
        let questions = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 2000];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let octets = buffer.get(..length).unwrap_or_default();
                let Ok(question) = Message::decode(octets) else {
                    continue;
                };
                let links = match question.get(option::URI_QUERY) {
                    Some(b"rt=brski.rjp") if both => Some(&jpy),
                    Some(b"rt=brski") => Some(&coaps),
                    _ => None,
                };
                if let Some(links) = links {
                    let kind = if question.kind == CON { ACK } else { NON };
                    let mut answer = Message::new(kind, Code::CONTENT, question.id)
                        .option(option::CONTENT_FORMAT, [LINK_FORMAT])
                        .payload(links.as_bytes());
                    answer.token.clone_from(&question.token);
                    // One that is lost is asked for again.
                    let _ = socket.send_to(&answer.encode(), from).await;
                }
                let mut list = questions.lock().unwrap_or_else(PoisonError::into_inner);
                list.push(question);
                // The kit has a receiver for as long as this runs.
                let _ = tell.send(list.len());
            }
        });
        Ok(Self {
            both,
            asked,
            count,
            task: task.abort_handle(),
        })
    }

    fn questions(&self) -> Vec<Message> {
        let questions = self.asked.lock();
        questions.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn cases() -> Vec<Case> {
    let cases = vec![
        Case::new(
            "join-proxy/jp-5.1/asks",
            "a proxy that is told of no registrar asks for one in /.well-known/core",
            &["JPX-037"],
            asks,
        ),
        Case::new(
            "join-proxy/jp-4.1/stateless-first",
            "where a registrar takes JPY, the proxy uses nothing else",
            &["JPX-002"],
            stateless_first,
        ),
        Case::new(
            "join-proxy/jp-4.1/else-stateful",
            "where no registrar takes JPY, the proxy is stateful",
            &["JPX-003"],
            else_stateful,
        ),
        Case::new(
            "join-proxy/jp-4.5.1/port-and-path",
            "a jpy link without a port is not used, and the path of one with a port is ignored",
            &["JPX-024", "JPX-023"],
            port_and_path,
        ),
        Case::new(
            "join-proxy/jp-5.1.2/path",
            "the path of a coaps link is not used",
            &["JPX-043"],
            coaps_path,
        ),
    ];
    let needs = |case: Case| case.needs(&["finds-registrar"]);
    cases.into_iter().map(needs).collect()
}

fn offers(kit: &JoinProxy, both: bool) -> Result<&Offers, Finding> {
    let offers = kit
        .offers
        .as_ref()
        .ok_or_else(|| Finding::could_not_test("the suite offers nothing"))?;
    if offers.both == both {
        return Ok(offers);
    }
    let other = if both { "both" } else { "coaps" };
    Err(Finding::not_applicable(format!(
        "it is about settings.offer = {other:?}"
    )))
}

async fn asks(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let offers = kit
        .offers
        .as_ref()
        .ok_or_else(|| Finding::could_not_test("the suite offers nothing"))?;
    let mut count = offers.count.clone();
    let came = timeout(FINDING_TIME, count.wait_for(|count| *count > 0)).await;
    must(
        came.is_ok(),
        format!("it asked nothing within {} s", FINDING_TIME.as_secs()),
    )?;
    let questions = offers.questions();
    for question in &questions {
        record.received("a question", &question.encode(), question.shown());
    }
    let is_right = |question: &Message| {
        let path: Vec<&[u8]> = question
            .options
            .iter()
            .filter(|(number, _)| *number == option::URI_PATH)
            .map(|(_, value)| value.as_slice())
            .collect();
        let query = question.get(option::URI_QUERY);
        question.code == Code::GET
            && path == [b".well-known".as_slice(), b"core"]
            && matches!(query, Some(b"rt=brski.rjp" | b"rt=brski"))
    };
    must(
        questions.iter().any(is_right),
        "nothing that it asked is GET /.well-known/core?rt=brski.rjp or ?rt=brski",
    )
}

async fn stateless_first(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    offers(&kit, true)?;
    let ports = kit.ports(&record).await?;
    must(!ports.jpy.is_empty(), "no join port leads to the JPY port")?;
    must(
        ports.coaps.is_empty(),
        "there is a stateful join port beside the stateless one",
    )
}

async fn else_stateful(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    offers(&kit, false)?;
    let ports = kit.ports(&record).await?;
    must(
        !ports.coaps.is_empty(),
        "no join port leads to the registrar that was offered",
    )
}

async fn port_and_path(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    offers(&kit, true)?;
    let ports = kit.ports(&record).await?;
    must(
        !ports.jpy.is_empty(),
        "no join port leads to the port of the link that has one",
    )?;
    must(
        ports.deaf.is_empty(),
        "a join port leads elsewhere: the link without a port was used",
    )
}

async fn coaps_path(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    offers(&kit, false)?;
    let ports = kit.ports(&record).await?;
    must(
        !ports.coaps.is_empty(),
        "no join port leads to the port of the link",
    )
}
