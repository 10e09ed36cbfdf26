//! Checking what the vaults share: the list of expiries, the sessions, the counters, what is to be
//! removed.

use folio_store::ReadTransaction;

use super::{VerifyError, compare};
use crate::read::LedgerView;
use crate::state_key::StateKey;
use crate::tables::{
    Cleanup, Cleanups, Counters, Expiries, SessionUses, Sessions, Vaults, counter,
};

/// Checks that every expiry on the list is that of an entity, that the sessions and the list of
/// their uses agree, and that no counter is behind a number that was given out.
/// [`verify_state`](super::verify_state) checks the other direction of the expiries, for a vault.
pub fn verify_shared(view: &ReadTransaction) -> Result<(), VerifyError> {
    verify_expiries(view)?;
    verify_sessions(view)?;
    verify_cleanups(view)?;
    let counters = view.table::<Counters>()?;
    let last = view.table::<Vaults>()?.last()?;
    let deleted = view.table::<Cleanups>()?.last()?;
    let vault = last
        .map_or(0, |(vault, _)| vault)
        .max(deleted.map_or(0, |(vault, _)| vault));
    let session = view
        .table::<Sessions>()?
        .last()?
        .map_or(0, |(session, _)| session);
    for (name, given_out) in [(counter::VAULT, vault), (counter::SESSION, session)] {
        let counter = counters.get(name)?.unwrap_or(0);
        compare(
            || format!("the counter of {name} numbers"),
            "its value",
            counter,
            counter.max(given_out),
        )?;
    }
    Ok(())
}

fn verify_expiries(view: &ReadTransaction) -> Result<(), VerifyError> {
    let ledger = LedgerView::new(view);
    for row in view.table::<Expiries>()?.iter()? {
        let ((time, vault, key), ()) = row?;
        let expires_at = ledger
            .stored_entity(vault, &key)?
            .and_then(|entity| entity.expires_at);
        let text = expires_at.map_or("never".to_owned(), |time| time.to_string());
        let place = || format!("vault {vault}, {}", StateKey::Entity(key.clone()));
        compare(
            place,
            "its expiry on the list of expiries",
            time.to_string(),
            text,
        )?;
    }
    Ok(())
}

fn verify_cleanups(view: &ReadTransaction) -> Result<(), VerifyError> {
    let vaults = view.table::<Vaults>()?;
    for row in view.table::<Cleanups>()?.iter()? {
        let (vault, cleanup) = row?;
        compare(
            || format!("vault {vault}, of which rows are to be removed"),
            "its being there",
            vaults.contains_key(vault)?,
            cleanup == Cleanup::Trimmed,
        )?;
    }
    Ok(())
}

fn verify_sessions(view: &ReadTransaction) -> Result<(), VerifyError> {
    let (sessions, uses) = (view.table::<Sessions>()?, view.table::<SessionUses>()?);
    for row in sessions.iter()? {
        let (session, row) = row?;
        let listed = uses.contains_key((row.used_at, session))?;
        compare(
            || format!("session {session}"),
            "its entry in the list of uses",
            listed,
            true,
        )?;
    }
    compare(
        || "the list of session uses".to_owned(),
        "its length",
        uses.len()?,
        sessions.len()?,
    )
}
