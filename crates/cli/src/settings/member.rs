//! Members and addresses on the command line.

use std::collections::BTreeMap;
use std::str::FromStr;

use folio_node::is_host_and_port;
use folio_raft::NodeId;

use crate::run::Failure;

/// `1=127.0.0.1:7101`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    id: NodeId,
    address: String,
}

impl FromStr for Member {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "write ID=HOST:PORT, for example 1=127.0.0.1:7101";
        let (id, address) = text.split_once('=').ok_or(form)?;
        let id = id.parse().ok().filter(|id| *id > 0).ok_or(form)?;
        match is_host_and_port(address) {
            true => Ok(Member {
                id,
                address: address.to_owned(),
            }),
            false => Err(form),
        }
    }
}

/// The address with `port`, unless it has one.
pub fn with_port(text: &str, port: u16) -> String {
    match is_host_and_port(text) {
        true => text.to_owned(),
        false => format!("{text}:{port}"),
    }
}

/// The members by id, of which each is named once.
pub fn by_id(members: &[Member], setting: &str) -> Result<BTreeMap<NodeId, String>, Failure> {
    let mut named = BTreeMap::new();
    for Member { id, address } in members {
        if named.insert(*id, address.clone()).is_some() {
            return Err(Failure::Usage(format!("{setting} names node {id} twice")));
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_an_id_and_an_address() {
        let member = |text: &str| text.parse::<Member>();
        for (text, id, address) in [
            ("1=127.0.0.1:7101", 1, "127.0.0.1:7101"),
            ("22=[::1]:1", 22, "[::1]:1"),
        ] {
            let address = address.to_owned();
            assert_eq!(member(text), Ok(Member { id, address }));
        }
        for wrong in [
            "",
            "1",
            "1=",
            "=a:1",
            "0=a:1",
            "1=a",
            "1=:1",
            "1=a:b",
            "1=a:99999",
            "1=a b:1",
            "x=a:1",
        ] {
            assert!(member(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_member_named_twice_is_refused() {
        let members: Vec<Member> = ["1=a:1", "2=b:1", "1=c:1"]
            .map(|text| text.parse().expect("a member"))
            .to_vec();
        let refused = by_id(&members, "--peers").expect_err("node 1 is named twice");
        assert_eq!(refused.code(), 2);
    }
}
