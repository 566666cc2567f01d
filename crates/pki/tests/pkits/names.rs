//! Server names and name constraints.

use pki::path::{PathOptions, Purpose, ServerName};

use crate::forge::{Authority, Spec, directory, dns, email, hardware_module, ip, seq, tlv, uri};
use crate::rules::{code, options, under_root};

/// Requirements: NAME-6.1-01, NAME-6.3-01, NAME-6.4-01
#[test]
fn server_names() {
    let wanted = |name: ServerName| PathOptions {
        name: Some(name),
        ..options(Purpose::Server)
    };
    let dns_name = |name: &str| wanted(ServerName::Dns(name.into()));
    let common_name = Spec::leaf("masa.example");
    assert_eq!(
        under_root(common_name, &dns_name("masa.example")),
        "path.name-mismatch"
    );
    let server = Spec::leaf("L").alt_names(&[
        dns("masa.example"),
        dns("*.lab.example"),
        ip(&[192, 0, 2, 1]),
    ]);
    let cases = [
        (dns_name("MASA.example"), "valid"),
        (dns_name("masa.example."), "valid"),
        (dns_name("a.lab.example"), "valid"),
        (dns_name("lab.example"), "path.name-mismatch"),
        (dns_name("a.b.lab.example"), "path.name-mismatch"),
        (dns_name("192.0.2.1"), "path.name-mismatch"),
        (wanted(ServerName::Ip([192, 0, 2, 1].into())), "valid"),
        (
            wanted(ServerName::Ip([192, 0, 2, 2].into())),
            "path.name-mismatch",
        ),
    ];
    for (options, expected) in cases {
        assert_eq!(
            under_root(server.clone(), &options),
            expected,
            "{:?}",
            options.name
        );
    }
    let text = Spec::leaf("L").dns_name("192.0.2.1");
    let address = wanted(ServerName::Ip([192, 0, 2, 1].into()));
    assert_eq!(under_root(text, &address), "path.name-mismatch");
}

#[test]
fn name_constraints_of_each_form() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let check = |permitted: &[Vec<u8>], excluded: &[Vec<u8>], leaf: Spec| {
        let ca = Spec::ca("I").constrained(permitted, excluded).under(&root);
        code(&leaf.under(&ca), &[&ca], &root, &any)
    };
    const OUT: &str = "path.name-constraint";
    let named = |name: Vec<u8>| Spec::leaf("").alt_names(&[name]);
    let net = |octets: [u8; 4], mask: [u8; 4]| ip(&[octets, mask].concat());
    let subnet = net([192, 0, 2, 0], [255, 255, 255, 0]);
    let cases = [
        (
            vec![dns("example")],
            vec![],
            named(dns("a.example")),
            "valid",
        ),
        (vec![dns("example")], vec![], named(dns("a.other")), OUT),
        (vec![dns("example")], vec![], named(dns("a_b.example")), OUT),
        (
            vec![],
            vec![dns("bad.example")],
            named(dns("x.bad.example")),
            OUT,
        ),
        (
            vec![],
            vec![dns("bad.example")],
            named(dns("*.example")),
            OUT,
        ),
        (
            vec![dns("example")],
            vec![],
            named(ip(&[10, 0, 0, 1])),
            "valid",
        ),
        (
            vec![subnet.clone()],
            vec![],
            named(ip(&[192, 0, 2, 7])),
            "valid",
        ),
        (
            vec![subnet.clone()],
            vec![],
            named(ip(&[192, 0, 3, 7])),
            OUT,
        ),
        (vec![], vec![subnet], named(ip(&[192, 0, 2, 7])), OUT),
        (
            vec![net([1, 2, 3, 4], [255, 0, 255, 0])],
            vec![],
            named(ip(&[1, 2, 3, 4])),
            OUT,
        ),
        (
            vec![email("example")],
            vec![],
            named(email("me@example")),
            "valid",
        ),
        (
            vec![email("example")],
            vec![],
            Spec::leaf("x/email=me@other"),
            OUT,
        ),
        (
            vec![email("example")],
            vec![],
            Spec::leaf("x/email=me@example"),
            "valid",
        ),
        (
            vec![uri(".example")],
            vec![],
            named(uri("https://a.example/x")),
            "valid",
        ),
        (vec![uri(".example")], vec![], named(uri("urn:uuid:1")), OUT),
        (
            vec![directory("Org")],
            vec![],
            Spec::leaf("Org/Device"),
            "valid",
        ),
        (
            vec![directory("Org")],
            vec![],
            Spec::leaf("Other/Device"),
            OUT,
        ),
        (
            vec![directory("Org")],
            vec![],
            named(directory("org/device")),
            "valid",
        ),
        (
            vec![],
            vec![directory("Org/Device")],
            Spec::leaf("ORG/device/7"),
            OUT,
        ),
        (vec![dns(".example")], vec![], named(dns("a.example")), OUT),
        (vec![dns("*.example")], vec![], named(dns("a.example")), OUT),
        // hardwareModuleName is a form of its own.
        (
            vec![dns("example"), email("example")],
            vec![],
            named(hardware_module(b"1")),
            "valid",
        ),
        (
            vec![directory("Org")],
            vec![],
            named(hardware_module(b"1")),
            "valid",
        ),
        (
            vec![],
            vec![hardware_module(b"2")],
            named(hardware_module(b"1")),
            OUT,
        ),
        (
            vec![hardware_module(b"1")],
            vec![],
            named(hardware_module(b"1")),
            "valid",
        ),
        (
            vec![hardware_module(b"2")],
            vec![],
            named(hardware_module(b"1")),
            OUT,
        ),
        (
            vec![],
            vec![tlv(0x88, &[0x2a, 3])],
            named(tlv(0x88, &[0x2a, 4])),
            OUT,
        ),
    ];
    for (index, (permitted, excluded, leaf, expected)) in cases.into_iter().enumerate() {
        assert_eq!(check(&permitted, &excluded, leaf), expected, "{index}");
    }
}

#[test]
fn name_constraints_only_narrow() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").constrained(&[dns("example")], &[]).root();
    let wider = Spec::ca("I").constrained(&[dns("other")], &[]).under(&root);
    let leaf = |name: &str, ca: &Authority| Spec::leaf("").dns_name(name).under(ca);
    assert_eq!(
        code(&leaf("a.other", &wider), &[&wider], &root, &any),
        "path.name-constraint"
    );
    assert_eq!(
        code(&leaf("a.example", &wider), &[&wider], &root, &any),
        "path.name-constraint"
    );
    let narrower = Spec::ca("I")
        .constrained(&[dns("a.example")], &[])
        .under(&root);
    assert_eq!(
        code(&leaf("x.a.example", &narrower), &[&narrower], &root, &any),
        "valid"
    );
    assert_eq!(
        code(&leaf("b.example", &narrower), &[&narrower], &root, &any),
        "path.name-constraint"
    );
    let empty = Spec::ca("I")
        .extension("2.5.29.30", true, seq(&[]))
        .under(&root);
    // A CA that cannot be read does not exist.
    assert_eq!(
        code(&leaf("a.example", &empty), &[&empty], &root, &any),
        "path.unknown-issuer"
    );
    let minimum = seq(&[seq(&[dns("example"), tlv(0x80, &[1])])]);
    let minimum = Spec::ca("I").extension("2.5.29.30", true, tlv(0x30, &tlv(0xa0, &minimum[2..])));
    let minimum = minimum.under(&root);
    assert_eq!(
        code(&leaf("a.example", &minimum), &[&minimum], &root, &any),
        "path.unknown-issuer"
    );
}
