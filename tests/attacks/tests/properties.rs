//! Scripts that proptest makes and, when one finds something, makes smaller: fewer steps, simpler ones, shorter values.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt;

use folio_attacks::{
    choices::{Choices, Numbers},
    crash::{check_lives, subsets},
    model::State,
    script::{Shape, Step},
    world::{World, created},
};
use proptest::{collection::vec, prelude::*};

/// Steps as they were chosen, for people.
#[derive(Clone)]
struct Script {
    shape: Shape,
    steps: Vec<Step>,
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#?} {:#?}", self.shape, self.steps)
    }
}

/// Each step out of numbers of its own, so that steps can go one by one. Zeros choose what is simplest.
fn script(power_cuts: bool, faults: bool) -> impl Strategy<Value = Script> {
    let numbers = || vec(any::<u32>(), 0..48);
    (numbers(), vec(numbers(), 1..40)).prop_map(move |(of_shape, of_steps)| {
        let shape = Shape {
            power_cuts,
            faults,
            ..Shape::choose(&mut Numbers::new(&of_shape))
        };
        let steps = of_steps.iter();
        let steps = steps.map(|numbers| Step::choose(&shape, &mut Numbers::new(numbers)));
        Script {
            shape,
            steps: steps.collect(),
        }
    })
}

fn run(script: &Script, recording: bool) -> World {
    let image = created(script.shape.page_size);
    let cache = 16 * script.shape.page_size;
    let context = "a script of proptest's".to_owned();
    let state = State::default();
    let mut world = World::new(&image, state, script.shape, cache, recording, context);
    for step in &script.steps {
        world.step(step);
    }
    world
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_database_is_its_model_whatever_is_done_to_it(script in script(true, true)) {
        let _ = run(&script, false).finish();
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_power_cut_at_any_moment_of_a_script_leaves_what_was_owed(script in script(true, true)) {
        let (lives, _) = run(&script, true).finish();
        check_lives(&lives, script.shape, &subsets(2), "a script of proptest's");
    }
}

#[test]
fn what_a_script_is_made_from_shrinks_to_the_simplest_step() {
    let shape = Shape::choose(&mut Numbers::new(&[]));
    let simplest = Step::choose(&shape, &mut Numbers::new(&[]));
    let Step::Transaction { operations, .. } = &simplest else {
        panic!("{simplest:?}")
    };
    assert_eq!((operations.len(), shape.page_size), (1, 4096));
    assert!(Numbers::new(&[]).is_over());
}
