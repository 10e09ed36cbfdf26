//! The hashing is that of the test vectors, which a second implementation wrote (`vectors/make.py`).

use folio_proof::block::BlockHeader;
use folio_proof::commitment::{Item, root_of};
use folio_proof::digest::Digest;
use folio_proof::merkle;
use folio_proof::proof::{ExtensionProof, StateProof};
use folio_proof::record::Record;
use folio_proof::state_key::{Entity, Relationship, StateKey, content_hash};
use serde::Deserialize;

#[derive(Deserialize)]
struct StateCase {
    name: String,
    entities: Vec<EntityCase>,
    relationships: Vec<RelationshipCase>,
    root: Digest,
    proofs: Vec<ProofCase>,
}

#[derive(Deserialize)]
struct EntityCase {
    key: String,
    version: u64,
    expires_at: Option<u64>,
    value: String,
    path: Digest,
    content: Digest,
}

#[derive(Deserialize)]
struct RelationshipCase {
    names: (String, String, String),
    path: Digest,
    content: Digest,
}

#[derive(Deserialize)]
struct ProofCase {
    entity: String,
    present: bool,
    #[serde(flatten)]
    proof: StateProof,
}

#[derive(Deserialize)]
struct RecordCase {
    record: Record,
    encoded: String,
    leaf_hash: Digest,
}

#[derive(Deserialize)]
struct ChainCase {
    earlier: BlockHeader,
    later: BlockHeader,
    proof: ExtensionProof,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).expect("a digit") as u8)
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] * 16 + pair[1])
        .collect()
}

#[test]
fn paths_content_hashes_and_state_roots_are_those_of_the_vectors() {
    let cases: Vec<StateCase> =
        serde_json::from_str(include_str!("vectors/state.json")).expect("the vectors");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let mut items = Vec::new();
        for EntityCase {
            key,
            version,
            expires_at,
            value,
            path,
            content,
        } in case.entities
        {
            let entity = Entity {
                version,
                expires_at,
                value: bytes(&value),
            };
            assert_eq!(StateKey::Entity(bytes(&key)).path(), path, "entity {key}");
            assert_eq!(content_hash(&entity.encode()), content, "entity {key}");
            items.push(Item { path, content });
        }
        for RelationshipCase {
            names: (resource, relation, subject),
            path,
            content,
        } in case.relationships
        {
            let key = StateKey::Relationship(Relationship {
                resource,
                relation,
                subject,
            });
            assert_eq!(key.path(), path, "{key}");
            assert_eq!(content_hash(b""), content, "{key}");
            items.push(Item { path, content });
        }
        items.sort();
        assert_eq!(root_of(&items), case.root, "{}", case.name);
        for ProofCase {
            entity,
            present,
            proof,
        } in case.proofs
        {
            let key = StateKey::Entity(bytes(&entity));
            let content = proof
                .content_of(&case.root, &key)
                .expect("a proof of this root");
            assert_eq!(content.is_some(), present, "{key} in {}", case.name);
        }
    }
}

#[test]
fn records_encode_as_the_vectors_do() {
    let cases: Vec<RecordCase> =
        serde_json::from_str(include_str!("vectors/records.json")).expect("the vectors");
    assert_eq!(cases.len(), 6);
    for RecordCase {
        record,
        encoded,
        leaf_hash,
    } in cases
    {
        let encoded = bytes(&encoded);
        assert_eq!(record.encode(), encoded);
        assert_eq!(Record::decode(&encoded), Ok(record));
        assert_eq!(merkle::leaf_hash(&encoded), leaf_hash);
    }
}

#[test]
fn extensions_of_a_chain_are_proved_as_in_the_vectors() {
    let cases: Vec<ChainCase> =
        serde_json::from_str(include_str!("vectors/chain.json")).expect("the vectors");
    assert_eq!(cases.len(), 12);
    for ChainCase {
        earlier,
        later,
        proof,
    } in cases
    {
        let heights = (earlier.height, later.height);
        assert!(proof.verify(&earlier, &later), "{heights:?}");
        if earlier != later {
            assert!(!proof.verify(&later, &earlier), "{heights:?}");
        }
    }
}
