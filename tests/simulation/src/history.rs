//! Is the history one that a single copy of the state could have produced?
//!
//! Twice: along the order that the log gives to all writes, which leaves nothing open, and by a checker that knows
//! nothing of the log, only of the values that were written and read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use folio_raft::ReadLevel;
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action as Step, History};
use todc_utils::specifications::Specification;

use crate::bank::{Action, Answer, Command, Contents, Place};
use crate::clients::{Kind, Operation, Outcome};
use crate::cluster::FOLLOWER_AGE;

/// Checks a history against the commands that the replicas say they carried out.
///
/// # Errors
///
/// What no single copy could have done.
pub fn check(history: &[Operation], carried_out: &BTreeMap<u64, Answer>) -> Result<(), String> {
    let asked = writes(history)?;
    let order = order_of(&asked, carried_out)?;
    let states = replay(&order)?;
    check_writes(history, carried_out)?;
    check_reads(history, &states)?;
    check_real_time(history, carried_out)?;
    check_ages(history, FOLLOWER_AGE)?;
    for register in registers(history) {
        check_register(register, history, carried_out)?;
    }
    Ok(())
}

fn writes(history: &[Operation]) -> Result<BTreeMap<u64, &Command>, String> {
    let mut asked = BTreeMap::new();
    for operation in history {
        if let Kind::Write(command, _) = &operation.kind
            && asked.insert(command.number, command).is_some()
        {
            return Err(format!("command {} was asked for twice", command.number));
        }
    }
    Ok(asked)
}

/// The commands in the order in which they were carried out.
fn order_of<'a>(
    asked: &BTreeMap<u64, &'a Command>,
    carried_out: &BTreeMap<u64, Answer>,
) -> Result<BTreeMap<Place, (&'a Command, Answer)>, String> {
    let mut order = BTreeMap::new();
    for (number, answer) in carried_out {
        let Some(command) = asked.get(number) else {
            return Err(format!(
                "command {number} was carried out and never asked for"
            ));
        };
        if order.insert(answer.place, (*command, *answer)).is_some() {
            return Err(format!(
                "two commands were carried out at {:?}",
                answer.place
            ));
        }
    }
    Ok(order)
}

/// The state after each command.
fn replay(
    order: &BTreeMap<Place, (&Command, Answer)>,
) -> Result<BTreeMap<Place, Contents>, String> {
    let mut contents = Contents::default();
    let mut states = BTreeMap::from([((0, 0), contents.clone())]);
    for (&place, (command, answer)) in order {
        let expected = contents.apply(place, command);
        if expected != *answer {
            return Err(format!(
                "command {} was answered {answer:?}, not {expected:?}",
                command.number
            ));
        }
        states.insert(place, contents.clone());
    }
    Ok(states)
}

/// What was answered was carried out, once and so, and what was refused was not.
fn check_writes(history: &[Operation], carried_out: &BTreeMap<u64, Answer>) -> Result<(), String> {
    for operation in history {
        let Kind::Write(Command { number, .. }, outcome) = &operation.kind else {
            continue;
        };
        match (outcome, carried_out.get(number)) {
            (Outcome::Done(answer), Some(found)) if answer == found => {}
            (Outcome::Done(answer), found) => {
                return Err(format!(
                    "command {number} was acknowledged as {answer:?}, and at the end it is {found:?}"
                ));
            }
            (Outcome::Refused, Some(found)) => {
                return Err(format!(
                    "command {number} was refused by node {}, and carried out: {found:?}",
                    operation.node
                ));
            }
            (Outcome::Refused, None) | (Outcome::Unknown, _) => {}
        }
    }
    Ok(())
}

/// Every view is the state after the command that it says is its last.
fn check_reads(history: &[Operation], states: &BTreeMap<Place, Contents>) -> Result<(), String> {
    for operation in history {
        let Kind::Read(level, _, seen) = &operation.kind else {
            continue;
        };
        if let ReadLevel::AtLeast(index) = level
            && seen.last.0 < *index
        {
            return Err(format!("{operation:?} lacks what was asked for"));
        }
        if states.get(&seen.last) != Some(&seen.contents) {
            return Err(format!(
                "node {} showed {seen:?}, and at that place the state is {:?}",
                operation.node,
                states.get(&seen.last)
            ));
        }
    }
    Ok(())
}

/// What ended before something began is before it in the log, or is what it saw.
fn check_real_time(
    history: &[Operation],
    carried_out: &BTreeMap<u64, Answer>,
) -> Result<(), String> {
    let mut begins = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for operation in history {
        let (place, is_write) = match &operation.kind {
            Kind::Write(command, _) => match carried_out.get(&command.number) {
                Some(answer) => (answer.place, true),
                None => continue,
            },
            Kind::Read(level, _, seen) if is_linearizable(*level) => (seen.last, false),
            Kind::Read(..) => continue,
        };
        begins.insert(operation.begun, (place, is_write, operation));
        if operation.ended != u64::MAX {
            ends.insert(operation.ended, (place, operation));
        }
    }
    let mut ends = ends.into_iter().peekable();
    let mut newest: Option<(Place, &Operation)> = None;
    for (begun, (place, is_write, operation)) in begins {
        while let Some((_, (place, operation))) = ends.next_if(|(ended, _)| *ended < begun) {
            if newest.is_none_or(|(newest, _)| newest < place) {
                newest = Some((place, operation));
            }
        }
        let Some((floor, earlier)) = newest else {
            continue;
        };
        if place < floor || (is_write && place == floor) {
            return Err(format!(
                "{earlier:?} ended before {operation:?} began, and is not before it in the log"
            ));
        }
    }
    Ok(())
}

fn is_linearizable(level: ReadLevel) -> bool {
    matches!(level, ReadLevel::Linearizable | ReadLevel::Lease)
}

/// A follower lacks nothing that was answered longer ago than its bound.
fn check_ages(history: &[Operation], bound: Duration) -> Result<(), String> {
    let ended = |operation: &Operation| match &operation.kind {
        Kind::Write(_, Outcome::Done(answer)) => Some((operation.until, answer.place)),
        Kind::Read(level, _, seen) if is_linearizable(*level) => Some((operation.until, seen.last)),
        _ => None,
    };
    let mut ends: Vec<_> = history.iter().filter_map(ended).collect();
    ends.sort_unstable();
    // From each moment on, the newest place that anybody was told of.
    let mut newest = (0, 0);
    for (_, place) in &mut ends {
        newest = newest.max(*place);
        *place = newest;
    }
    for operation in history {
        if let Kind::Read(ReadLevel::Follower, _, seen) = &operation.kind
            && let Some(then) = operation.since.checked_sub(bound)
        {
            let before = ends.partition_point(|(until, _)| *until < then);
            if before > 0 && seen.last < ends[before - 1].1 {
                return Err(format!(
                    "{operation:?} lacks {:?}, answered at {:?}",
                    ends[before - 1].1,
                    ends[before - 1].0
                ));
            }
        }
    }
    Ok(())
}

fn registers(history: &[Operation]) -> BTreeSet<u64> {
    let of = |operation: &Operation| match operation.kind {
        Kind::Read(_, register, _) => Some(register),
        Kind::Write(..) => None,
    };
    history.iter().filter_map(of).collect()
}

/// A register for the checker.
struct Register;

#[derive(Clone, Debug)]
enum OnRegister {
    Read(u64),
    Write(u64),
    Swap {
        expected: u64,
        new: u64,
        /// What it held and whether it was changed, if that was answered.
        answer: Option<(u64, bool)>,
    },
}

impl Specification for Register {
    type State = u64;
    type Operation = OnRegister;

    fn init() -> u64 {
        0
    }

    fn apply(operation: &OnRegister, state: &u64) -> (bool, u64) {
        match *operation {
            OnRegister::Read(value) => (value == *state, *state),
            OnRegister::Write(value) => (true, value),
            OnRegister::Swap {
                expected,
                new,
                answer,
            } => {
                let done = *state == expected;
                let right = answer.is_none_or(|told| told == (*state, done));
                (right, if done { new } else { *state })
            }
        }
    }
}

/// Gives the history of one register to the checker. An unknown write that was carried out may have been at any
/// time after its begin; one that was not never will be, since the history is over.
fn check_register(
    register: u64,
    history: &[Operation],
    carried_out: &BTreeMap<u64, Answer>,
) -> Result<(), String> {
    let mut steps = Vec::new();
    for (process, operation) in history.iter().enumerate() {
        let step = match &operation.kind {
            Kind::Read(level, of, seen) if *of == register && is_linearizable(*level) => {
                OnRegister::Read(seen.contents.registers.get(&register).copied().unwrap_or(0))
            }
            Kind::Write(command, outcome) => {
                if *outcome == Outcome::Unknown && !carried_out.contains_key(&command.number) {
                    continue;
                }
                let answer = match outcome {
                    Outcome::Done(answer) => Some((answer.before, answer.done)),
                    Outcome::Unknown => None,
                    Outcome::Refused => continue,
                };
                match command.action {
                    Action::Write { register: of } if of == register => {
                        OnRegister::Write(command.number)
                    }
                    Action::Swap {
                        register: of,
                        expected,
                    } if of == register => OnRegister::Swap {
                        expected,
                        new: command.number,
                        answer,
                    },
                    _ => continue,
                }
            }
            Kind::Read(..) => continue,
        };
        steps.push((operation.begun, process, Step::Call(step.clone())));
        steps.push((operation.ended, process, Step::Response(step)));
    }
    steps.sort_by_key(|&(when, process, _)| (when, process));
    let processes: BTreeSet<usize> = steps.iter().map(|&(_, process, _)| process).collect();
    let dense: BTreeMap<usize, usize> = processes.into_iter().zip(0..).collect();
    let steps: Vec<_> = steps
        .into_iter()
        .map(|(_, process, step)| (dense[&process], step))
        .collect();
    if steps.is_empty() || WGLChecker::<Register>::is_linearizable(History::from_actions(steps)) {
        Ok(())
    } else {
        Err(format!(
            "the history of register {register} is not linearizable"
        ))
    }
}
