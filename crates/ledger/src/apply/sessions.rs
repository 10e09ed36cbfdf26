//! Sessions: how a retried command is carried out once.
//!
//! A client opens a session and numbers its commands from 1. The session remembers the latest
//! number and its answer: the same number again gets that answer and does nothing, a lower one is
//! told that it is stale, a higher one is carried out. So a client has one command on the way at a
//! time, and repeats it until it hears the answer, at whatever node.
//!
//! The memory is part of the replicated state, so it survives a change of leader, a restart and a
//! snapshot. It is bounded: a session is over when no command has used it for
//! [`SESSION_LIFETIME_ENTRIES`](crate::limits::SESSION_LIFETIME_ENTRIES) log entries, and there are
//! at most [`MAX_SESSIONS`](crate::limits::MAX_SESSIONS), of which a new one displaces the one
//! unused for longest. Session numbers come from a counter and are not given out again, so a number
//! at or below the counter without a session is one that is over, and its commands are told so
//! rather than carried out a second time.

use super::Entry;
use crate::error::Result;
use crate::limits::{MAX_SESSIONS, SESSION_LIFETIME_ENTRIES, SESSIONS_REMOVED_PER_ENTRY};
use crate::response::{Rejection, Response};
use crate::tables::{Answered, SessionRow, counter};
use crate::transaction::SessionSequence;

/// What a session says to a command.
pub(super) enum Admission {
    /// It is to be carried out.
    New,
    /// It is not; this is the answer.
    Answered(Response),
}

impl Entry<'_> {
    pub(super) fn open_session(&mut self) -> Result<u64> {
        if self.tables.sessions.len()? >= MAX_SESSIONS
            && let Some(((_, unused_for_longest), ())) = self.tables.session_uses.first()?
        {
            self.close_session(unused_for_longest)?;
        }
        let session = self.take_numbers(counter::SESSION, 1)?;
        let used_at = self.at.index;
        self.tables.sessions.insert(
            session,
            SessionRow {
                used_at,
                latest: None,
            },
        )?;
        self.tables.session_uses.insert((used_at, session), ())?;
        Ok(session)
    }

    pub(super) fn close_session(&mut self, session: u64) -> Result<()> {
        if let Some(row) = self.tables.sessions.remove(session)? {
            let used_at = row.decode()?.used_at;
            self.tables.session_uses.remove((used_at, session))?;
        }
        Ok(())
    }

    /// Looks a command up in its session.
    pub(super) fn admit(&mut self, place: SessionSequence) -> Result<Admission> {
        let SessionSequence { session, sequence } = place;
        let refused = |rejection| Ok(Admission::Answered(Response::Rejected(rejection)));
        let Some(row) = self.tables.sessions.get(session)? else {
            let opened = self.tables.counters.get(counter::SESSION)?.unwrap_or(0);
            return refused(if (1..=opened).contains(&session) {
                Rejection::SessionExpired { session }
            } else {
                Rejection::SessionUnknown { session }
            });
        };
        if self.is_over(row.used_at) {
            return refused(Rejection::SessionExpired { session });
        }
        let Some(answered) = &row.latest else {
            return Ok(Admission::New);
        };
        if sequence > answered.sequence {
            return Ok(Admission::New);
        }
        let response = if sequence == answered.sequence {
            answered.response.clone()
        } else {
            Response::Rejected(Rejection::StaleSequence {
                session,
                sequence,
                latest: answered.sequence,
            })
        };
        self.store_use(session, row)?;
        Ok(Admission::Answered(response))
    }

    /// Remembers the answer to a command that was carried out, and forgets the one before.
    pub(super) fn remember(&mut self, place: SessionSequence, response: &Response) -> Result<()> {
        if let Some(row) = self.tables.sessions.get(place.session)? {
            let latest = Some(Answered {
                sequence: place.sequence,
                response: response.clone(),
            });
            self.store_use(place.session, SessionRow { latest, ..row })?;
        }
        Ok(())
    }

    /// Stores a session as used by this entry.
    fn store_use(&mut self, session: u64, row: SessionRow) -> Result<()> {
        let used_at = self.at.index;
        if row.used_at != used_at {
            self.tables.session_uses.remove((row.used_at, session))?;
            self.tables.session_uses.insert((used_at, session), ())?;
        }
        self.tables
            .sessions
            .insert(session, SessionRow { used_at, ..row })?;
        Ok(())
    }

    pub(super) fn remove_unused_sessions(&mut self) -> Result<()> {
        let mut over = Vec::new();
        for row in self
            .tables
            .session_uses
            .iter()?
            .take(SESSIONS_REMOVED_PER_ENTRY)
        {
            let ((used_at, session), ()) = row?;
            if !self.is_over(used_at) {
                break;
            }
            over.push(session);
        }
        for session in over {
            self.close_session(session)?;
        }
        Ok(())
    }

    /// Whether a session last used at this log index is over. This alone decides, not whether its
    /// row is still there.
    fn is_over(&self, used_at: u64) -> bool {
        self.at.index.saturating_sub(used_at) >= SESSION_LIFETIME_ENTRIES
    }
}
