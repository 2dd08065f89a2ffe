//! enode URLs: what is read comes back as it was printed, and whatever can be named can be read.

use arbitrary::{Result, Unstructured};
use kadnode::proto::identity::{Contact, Endpoint, Enode, Host};

use super::{assert_sentence, made};

/// Reads `data` as an enode URL, and as a recipe for one.
pub fn check(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        match text.parse() {
            Ok(enode) => come_back(&enode),
            Err(error) => assert_sentence(&error as &kadnode::proto::identity::EnodeError),
        }
    }
    let _ = recipe(&mut Unstructured::new(data));
}

fn come_back(enode: &Enode) {
    let printed = enode.to_string();
    assert!(printed.len() <= 412, "bootstrap::MAX_LINE_LEN counts on it");
    assert_eq!(printed.parse().as_ref(), Ok(enode), "{printed}");
    match &enode.host {
        Host::Ip(ip) => {
            let contact = enode.contact().expect("a host that is an address makes a contact");
            assert_eq!((contact.endpoint.ip, Enode::from(contact)), (*ip, enode.clone()));
            assert_eq!(contact.to_string(), printed);
        }
        Host::Name(_) => assert_eq!(enode.contact(), None),
    }
}

fn recipe(u: &mut Unstructured<'_>) -> Result<()> {
    let (ip, udp, tcp) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
    come_back(&Contact { key: made::public_key(u)?, endpoint: Endpoint::new(ip, udp, tcp) }.into());
    Ok(())
}
