//! A registrar behind a transport that is no network: requests are handed over as they are.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use ::coap::{Code, Request, Response, format};
use brski::pledge::{self, What};
use device::{
    Error,
    coaps::{Config, Peer, Transport},
};
use est::{body, coaps::code_of};
use net::dtls;
use pki::{Certificate, Identity};

use crate::{
    sim::{self, Sim},
    world::{Manufacturer, NOW, leaf_only},
};

/// What the path to the registrar does to a request.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// The association breaks before the request arrives.
    RequestLost,
    /// It breaks before the answer arrives.
    AnswerLost,
    /// The registrar answers this, and does nothing.
    Says(Response),
}

pub(crate) struct Shared {
    pub(crate) sim: Sim,
    /// What happens to the requests for this resource, one after the other.
    pub(crate) troubles: VecDeque<(&'static str, Trouble)>,
    /// Requests as they arrived.
    pub(crate) requests: Vec<Request>,
    /// Associations made.
    pub(crate) associations: usize,
    /// What the registrar shows instead of its own certificates.
    pub(crate) shown: Option<Vec<Certificate>>,
    /// Of each association, whether it was made with small records.
    pub(crate) small: Vec<bool>,
    /// As whom the last request came.
    pub(crate) client: Option<Certificate>,
    /// What the registrar calls its vouchers.
    pub(crate) voucher_format: u16,
    /// Addresses at which nobody is.
    pub(crate) dead: Vec<SocketAddr>,
}

/// The world of a test.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) manufacturer: Manufacturer,
    pub(crate) shared: Arc<Mutex<Shared>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let (mut sim, manufacturer) = Sim::new();
        sim.masa.register("SN-1");
        Self {
            manufacturer,
            shared: Arc::new(Mutex::new(Shared {
                sim,
                troubles: VecDeque::new(),
                requests: Vec::new(),
                associations: 0,
                shown: None,
                small: Vec::new(),
                client: None,
                voucher_format: format::VOUCHER_COSE,
                dead: Vec::new(),
            })),
        }
    }

    pub(crate) fn config(&self, idevid: &Identity) -> Config {
        // Behind COSE there is no chain: a device has the signer's own certificate or its key.
        let signers = [&self.manufacturer.masa, &self.manufacturer.masa_nonceless];
        let anchors = signers.iter().filter_map(|one| one.certificate().cloned());
        let anchors = anchors.collect();
        let address: SocketAddr = "192.0.2.1:5684".parse().unwrap();
        let mut config = Config::new(&[address], leaf_only(idevid), anchors, NOW);
        config.device.attempts_max = Some(1);
        config
    }

    pub(crate) fn transport(&self) -> FakeTransport {
        FakeTransport {
            shared: Arc::clone(&self.shared),
            client: None,
        }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Shared) -> T) -> T {
        look(&mut self.shared.lock().unwrap())
    }

    /// The next request for this resource meets with this.
    pub(crate) fn trouble(&self, name: &'static str, trouble: Trouble) {
        self.with(|shared| shared.troubles.push_back((name, trouble)));
    }

    /// Last segments of the paths of the requests that arrived.
    pub(crate) fn names(&self) -> Vec<String> {
        self.with(|shared| {
            let name = |request: &Request| request.path.last().cloned().unwrap_or_default();
            shared.requests.iter().map(name).collect()
        })
    }
}

pub(crate) struct FakeTransport {
    shared: Arc<Mutex<Shared>>,
    client: Option<Vec<Certificate>>,
}

impl Transport for FakeTransport {
    async fn connect(
        &mut self,
        to: SocketAddr,
        dtls: &dtls::ClientConfig,
        _coap: &::coap::Config,
    ) -> Result<Peer, Error> {
        // CBR-029: The pledge omits the SNI extension.
        assert_eq!(dtls.server_name, None);
        // CBR-010: A DTLS 1.2 pledge offers TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8.
        assert!(dtls.suites.contains(&dtls::Suite::EcdheEcdsaAes128Ccm8));
        let mut shared = self.shared.lock().unwrap();
        shared.associations += 1;
        if shared.dead.contains(&to) {
            return Err(Error::NoAnswer {
                what: "connect".to_owned(),
                reason: "nobody is there".to_owned(),
            });
        }
        shared.small.push(dtls.record_limit.is_some());
        self.client = dtls.identity.as_ref().map(|own| own.chain.clone());
        Ok(Peer {
            chain: match &shared.shown {
                Some(shown) => shown.clone(),
                None => shared.sim.registrars[0].identity.chain.clone(),
            },
            security: "none".to_owned(),
            exporter: None,
        })
    }

    async fn request(&mut self, request: Request) -> Result<Response, String> {
        let Some(client) = self.client.clone() else {
            return Err("there is no association".to_owned());
        };
        let mut shared = self.shared.lock().unwrap();
        let shared = &mut *shared;
        shared.requests.push(request.clone());
        shared.client = client.first().cloned();
        let name = request.path.last().map(String::as_str).unwrap_or_default();
        let here = shared.troubles.iter().position(|(at, _)| *at == name);
        let trouble = here.and_then(|index| shared.troubles.remove(index));
        match trouble {
            None => {
                let mut response = handle(&mut shared.sim, &client, &request);
                if response.content_format == Some(format::VOUCHER_COSE) {
                    response.content_format = Some(shared.voucher_format);
                }
                Ok(response)
            }
            Some((_, Trouble::Says(response))) => Ok(response),
            Some((_, Trouble::RequestLost)) => {
                self.client = None;
                Err("no answer in time".to_owned())
            }
            Some((_, Trouble::AnswerLost)) => {
                handle(&mut shared.sim, &client, &request);
                self.client = None;
                Err("no answer in time".to_owned())
            }
        }
    }

    async fn close(&mut self) {
        self.client = None;
    }
}

/// The simulated registrar speaks HTTP; this is the other direction of what the device does.
pub(crate) fn handle(sim: &mut Sim, client: &[Certificate], request: &Request) -> Response {
    const BRSKI: &str = "/.well-known/brski/";
    const EST: &str = "/.well-known/est/";
    let (what, path) = match request.path().as_str() {
        ".well-known/brski/rv" => (What::RequestVoucher, format!("{BRSKI}requestvoucher")),
        ".well-known/brski/vs" => (What::VoucherStatus, format!("{BRSKI}voucher_status")),
        ".well-known/brski/es" => (What::EnrolStatus, format!("{BRSKI}enrollstatus")),
        ".well-known/est/crts" => (What::CaCertificates, format!("{EST}cacerts")),
        ".well-known/est/att" => (What::CsrAttributes, format!("{EST}csrattrs")),
        ".well-known/est/sen" => (What::Enrol, format!("{EST}simpleenroll")),
        ".well-known/est/sren" => (What::Enrol, format!("{EST}simplereenroll")),
        _ => return Response::new(Code::NOT_FOUND),
    };
    let posts = !matches!(what, What::CaCertificates | What::CsrAttributes);
    assert_eq!(request.code() == Code::POST, posts, "{request:?}");
    let (format, media_type, encoded) = match what {
        What::RequestVoucher => (
            Some(format::VOUCHER_COSE),
            "application/voucher+cose",
            false,
        ),
        What::VoucherStatus | What::EnrolStatus => (Some(format::CBOR), "application/cbor", false),
        What::Enrol => (Some(format::PKCS10), "application/pkcs10", true),
        What::CaCertificates | What::CsrAttributes => (None, "", false),
    };
    // CBR-044: Telemetry is sent as CBOR with content-format 60.
    assert_eq!(request.content_format, format, "{request:?}");
    let http = pledge::Request {
        what,
        method: if posts { "POST" } else { "GET" },
        path,
        headers: if posts {
            vec![("content-type", media_type.to_owned())]
        } else {
            Vec::new()
        },
        body: if encoded {
            body::encode(&request.payload)
        } else {
            request.payload.clone()
        },
    };
    let Sim {
        masa,
        registrars,
        now,
    } = sim;
    let response = registrars[0].handle(client, &http, masa, *now);
    translated(what, request.accept, &response)
}

fn translated(what: What, accept: Option<u16>, response: &sim::Response) -> Response {
    let seconds = |name: &str| response.header(name).and_then(|value| value.parse().ok());
    if response.status != 200 {
        return Response {
            max_age: seconds("retry-after"),
            payload: response.body.clone(),
            ..Response::new(code_of(response.status))
        };
    }
    let certificates = || {
        let strict = body::BodyTolerances::default();
        let (der, _) = body::decode(&response.body, 65_536, &strict).unwrap();
        pki::pkcs7::parse_certs_only(&der).unwrap()
    };
    match what {
        What::RequestVoucher => {
            assert_eq!(
                response.header("content-type"),
                Some("application/voucher+cose")
            );
            Response::content(Code::CHANGED, format::VOUCHER_COSE, response.body.clone())
        }
        What::Enrol => match accept {
            Some(format::PKIX_CERT) => {
                let der = certificates()[0].der().to_vec();
                Response::content(Code::CHANGED, format::PKIX_CERT, der)
            }
            _ => {
                let bag = pki::pkcs7::certs_only(&certificates()).unwrap();
                Response::content(Code::CHANGED, format::PKCS7_CERTS_ONLY, bag)
            }
        },
        What::CaCertificates => {
            let certificates = certificates();
            match accept {
                Some(format::MULTIPART_CORE) => {
                    let parts: Vec<_> = certificates
                        .iter()
                        .map(|one| (format::PKIX_CERT, Some(one.der())))
                        .collect();
                    let body = est::coaps::multipart::write(&parts);
                    Response::content(Code::CONTENT, format::MULTIPART_CORE, body)
                }
                Some(format::PKIX_CERT) => {
                    let der = certificates[0].der().to_vec();
                    Response::content(Code::CONTENT, format::PKIX_CERT, der)
                }
                _ => {
                    let bag = pki::pkcs7::certs_only(&certificates).unwrap();
                    Response::content(Code::CONTENT, format::PKCS7_CERTS_ONLY, bag)
                }
            }
        }
        What::VoucherStatus | What::EnrolStatus | What::CsrAttributes => {
            Response::new(Code::CHANGED)
        }
    }
}
