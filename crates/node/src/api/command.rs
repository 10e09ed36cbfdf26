//! What the API's types are in the ledger.

use folio_api::{Counter, Entity, NewTransaction, PastEntity, Receipt, Vault};
use folio_ledger::VaultInfo;
use folio_ledger::command::{self, Command};
use folio_ledger::response;
use folio_ledger::transaction::Transaction;

/// What clients may number.
pub(super) fn ledger_counter(of: Counter) -> command::Counter {
    match of {
        Counter::Organization => command::Counter::Organization,
        Counter::User => command::Counter::User,
    }
}

/// The command that carries out a transaction on `vault`.
pub(super) fn submit(vault: u64, of: NewTransaction) -> Command {
    let transaction = Transaction {
        vault,
        conditions: of.conditions.into_iter().map(Into::into).collect(),
        operations: of.operations.into_iter().map(Into::into).collect(),
    };
    Command::submit(transaction)
}

/// None for what only the cluster itself numbers.
pub(super) fn counter(of: command::Counter) -> Option<Counter> {
    match of {
        command::Counter::Organization => Some(Counter::Organization),
        command::Counter::User => Some(Counter::User),
        command::Counter::Node => None,
    }
}

pub(super) fn receipt(of: response::Receipt) -> Receipt {
    Receipt {
        vault: of.vault,
        height: of.height,
        position: of.position,
        log_index: of.log_index,
        outcomes: of.outcomes.into_iter().map(Into::into).collect(),
    }
}

pub(super) fn vault(of: VaultInfo) -> Vault {
    let VaultInfo {
        vault,
        name,
        height,
        block_hash,
        time,
        state_root,
        entities,
        relationships,
        retention,
        retained_from,
    } = of;
    Vault {
        vault,
        name,
        height,
        block_hash,
        time,
        state_root,
        entities,
        relationships,
        retention,
        retained_from,
    }
}

/// What the entity under `key` was.
pub(super) fn past_entity(key: &[u8], of: folio_ledger::PastEntity) -> PastEntity {
    PastEntity {
        until: of.until,
        entity: of.entity.map(|entity| Entity::new(key.to_vec(), entity)),
    }
}

#[cfg(test)]
mod tests {
    use folio_api::Session;
    use folio_ledger::state_key::Relationship;
    use folio_ledger::transaction::Requirement;
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_transaction_reads_as_it_is_written() {
        let body = json!({
            "session": { "id": "abc", "sequence": 3 },
            "conditions": [
                { "entity": "a", "must": "exist" },
                { "entity": { "base64": "/w==" }, "must": { "have_version": 2 } },
                { "entity": "a", "must": { "have_value": "v" } },
                { "relationship": { "resource": "r", "relation": "l", "subject": "s" }, "must": "not_exist" },
            ],
            "operations": [
                { "set": { "key": "a", "value": "b" } },
                { "set": { "key": "a", "value": "b", "expires_at": 9 } },
                { "delete": { "key": "a" } },
                { "relate": { "resource": "r", "relation": "l", "subject": "s" } },
                { "unrelate": { "resource": "r", "relation": "l", "subject": "s" } },
            ],
        });
        let parsed: NewTransaction = from_value(body).expect("a good body");
        let relationship = Relationship::new("r", "l", "s");
        let expected = Transaction::new(5)
            .require_entity("a", Requirement::MustExist)
            .require_entity([0xff], Requirement::VersionIs(2))
            .require_entity("a", Requirement::ValueIs(b"v".to_vec()))
            .require_relationship(relationship.clone(), Requirement::MustNotExist)
            .set("a", "b")
            .set_until("a", "b", 9)
            .delete("a")
            .relate(relationship.clone())
            .unrelate(relationship);
        let session = Session {
            id: "abc".to_owned(),
            sequence: 3,
        };
        assert_eq!(parsed.session, Some(session));
        assert_eq!(submit(5, parsed), Command::submit(expected));
    }

    #[test]
    fn a_misspelt_member_is_refused_instead_of_ignored() {
        for body in [
            json!({ "operations": [], "condition": [] }),
            json!({ "operations": [{ "set": { "key": "a", "value": "b", "expires": 9 } }] }),
            json!({ "operations": [{ "put": { "key": "a", "value": "b" } }] }),
            json!({ "operations": [], "conditions": [{ "entity": "a", "must": "exists" }] }),
            json!({ "operations": [], "conditions": [{ "entity": "a", "must": "exist", "also": 1 }] }),
            json!({ "operations": [], "conditions": [{ "must": "exist" }] }),
            json!({ "operations": [], "conditions": [{ "entity": "a" }] }),
            json!({ "conditions": [] }),
        ] {
            assert!(
                from_value::<NewTransaction>(body.clone()).is_err(),
                "{body}"
            );
        }
    }
}
