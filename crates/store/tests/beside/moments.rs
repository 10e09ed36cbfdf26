//! One thing happens at every moment of another.

use std::sync::{Arc, Mutex};

use folio_store::{Builder, Database, Durability, Error, Group, GroupSet, ReaderPlace};

use super::{
    State, append, check_whole, compact, rewrite,
    shared::{Handle, Shared},
    state,
};

/// With so small a cache that what is read comes from the storage.
fn builder() -> Builder {
    Database::builder().cache_size(0)
}

fn create(handle: &Arc<Handle>) -> Database {
    builder()
        .growth(4096, 1 << 20)
        .create_on(handle.clone())
        .unwrap()
}

fn read(handle: Arc<Handle>) -> Database {
    builder().open_read_only_on(handle).unwrap()
}

/// Rewrites everything several times, and cuts the file: what is not kept for somebody is gone.
fn wear(db: &Database, version: u64) {
    for step in 1..=4 {
        rewrite(db, version + step, Durability::Immediate);
        append(db, Durability::Immediate);
    }
    compact(db);
    rewrite(db, version + 5, Durability::Immediate);
}

#[test]
fn a_reader_that_opens_while_the_writer_commits_shows_one_commit_and_keeps_it() {
    for commits in [1, 2, 3, 6] {
        let mut moment = 0;
        loop {
            let shared = Arc::new(Shared::default());
            let writer = create(&shared.handle());
            rewrite(&writer, 1, Durability::Immediate);
            append(&writer, Durability::Immediate);
            let handle = shared.handle();
            let other = writer.clone();
            handle.after(moment, move || {
                for version in 2..2 + commits {
                    rewrite(&other, version, Durability::Immediate);
                }
                compact(&other);
            });
            let reader = read(handle.clone());
            let done = handle.forget();
            wear(&writer, 10);
            let shown = state(&reader);
            let (least, most) = (
                State { version: 1, log: 1 },
                State {
                    version: 1 + commits,
                    log: 1,
                },
            );
            assert!(
                shown.lies_between(least, most),
                "{commits} at {moment}: {shown:?}"
            );
            wear(&writer, 20);
            assert_eq!(state(&reader), shown, "{commits} at {moment}");
            check_whole(&reader);
            drop((reader, handle));
            rewrite(&writer, 30, Durability::Immediate);
            rewrite(&writer, 31, Durability::Immediate);
            assert_eq!(writer.statistics().kept_pages, 0);
            check_whole(&writer);
            if done {
                break;
            }
            moment += 1;
        }
        assert!(moment > 10, "{moment}");
    }
}

/// A life of a writer, from opening to closing. `durable` is told what has become so.
fn live(handle: &Arc<Handle>, durable: &Mutex<State>) {
    let db = builder().open_on(handle.clone()).unwrap();
    let told = |change: fn(&mut State)| change(&mut durable.lock().unwrap());
    rewrite(&db, 2, Durability::Immediate);
    told(|state| state.version = 2);
    append(&db, Durability::Immediate);
    told(|state| state.log += 1);
    rewrite(&db, 3, Durability::Eventual);
    append(&db, Durability::Eventual);
    db.checkpoint(GroupSet::from(Group::new(1))).unwrap();
    told(|state| state.log += 1);
    // Nothing is published between the two flushes.
    db.checkpoint(GroupSet::ALL).unwrap();
    told(|state| state.version = 3);
    rewrite(&db, 4, Durability::Immediate);
    told(|state| state.version = 4);
    compact(&db);
    append(&db, Durability::Eventual);
    rewrite(&db, 5, Durability::Eventual);
    db.close().unwrap();
    told(|state| {
        state.version = 5;
        state.log += 1;
    });
}

#[test]
fn a_reader_that_opens_at_any_moment_of_a_writer_shows_what_is_durable_and_keeps_it() {
    let most = State { version: 5, log: 4 };
    for closed in [true, false] {
        let mut moment = 0;
        loop {
            let shared = Arc::new(Shared::default());
            let first = create(&shared.handle());
            rewrite(&first, 1, Durability::Immediate);
            append(&first, Durability::Immediate);
            match closed {
                true => first.close().unwrap(),
                false => first.kill(),
            }
            let durable = Arc::new(Mutex::new(State { version: 1, log: 1 }));
            let opened = Arc::new(Mutex::new(None));
            let handle = shared.handle();
            handle.after(moment, {
                let (shared, durable, opened) = (shared.clone(), durable.clone(), opened.clone());
                move || {
                    let least = *durable.lock().unwrap();
                    *opened.lock().unwrap() = Some((read(shared.handle()), least));
                }
            });
            live(&handle, &durable);
            let done = handle.forget();
            let opened = opened.lock().unwrap().take();
            if let Some((reader, least)) = opened {
                let again = builder().open_on(shared.handle()).unwrap();
                wear(&again, 10);
                let shown = state(&reader);
                assert!(
                    shown.lies_between(least, most),
                    "closed {closed}, at {moment}: {shown:?}, {least:?} was durable"
                );
                check_whole(&reader);
                wear(&again, 20);
                assert_eq!(state(&reader), shown, "closed {closed}, at {moment}");
            }
            if done {
                break;
            }
            moment += 1;
        }
        assert!(moment > 100, "{moment}");
    }
}

#[test]
fn a_writer_that_opens_beside_readers_of_earlier_commits_keeps_them_and_gives_their_space_out_later()
 {
    for killed in [false, true] {
        let shared = Arc::new(Shared::default());
        let first = create(&shared.handle());
        rewrite(&first, 1, Durability::Immediate);
        let one = read(shared.handle());
        rewrite(&first, 2, Durability::Immediate);
        let two = read(shared.handle());
        rewrite(&first, 3, Durability::Immediate);
        rewrite(&first, 4, Durability::Immediate);
        match killed {
            true => first.kill(),
            false => first.close().unwrap(),
        }
        let second = builder().open_on(shared.handle()).unwrap();
        let free = second.statistics().free_pages;
        assert_eq!(free, 0, "what they need is among what is free");
        wear(&second, 10);
        assert_eq!((state(&one).version, state(&two).version), (1, 2));
        second.close().unwrap();
        let third = builder().open_on(shared.handle()).unwrap();
        wear(&third, 20);
        check_whole(&one);
        check_whole(&two);
        assert_eq!((state(&one).version, state(&two).version), (1, 2));
        drop((one, two));
        rewrite(&third, 30, Durability::Immediate);
        assert!(third.statistics().free_pages > 20);
        let file = third.statistics().file_pages;
        for version in 31..60 {
            rewrite(&third, version, Durability::Immediate);
        }
        assert_eq!(third.statistics().file_pages, file);
        check_whole(&third);
        assert_eq!(state(&third).version, 59);
    }
}

#[test]
fn a_reader_kept_for_long_costs_its_own_state_only() {
    let shared = Arc::new(Shared::default());
    let writer = create(&shared.handle());
    rewrite(&writer, 1, Durability::Immediate);
    let reader = read(shared.handle());
    (2..20).for_each(|version| rewrite(&writer, version, Durability::Immediate));
    let length = writer.statistics().length_pages;
    for version in 20..400 {
        rewrite(&writer, version, Durability::Immediate);
        append(&writer, Durability::Immediate);
    }
    let grown = writer.statistics().length_pages - length;
    assert!(grown < 20, "{grown} pages");
    assert_eq!(state(&reader).version, 1);
}

#[test]
fn readers_elsewhere_are_listed_until_they_are_gone() {
    let shared = Arc::new(Shared::default());
    let writer = create(&shared.handle());
    rewrite(&writer, 1, Durability::Immediate);
    assert_eq!(writer.readers(), []);
    let first_transaction = writer.published_transaction();
    let reader = read(shared.handle());
    let same = read(shared.handle());
    rewrite(&writer, 2, Durability::Immediate);
    let listed = writer.readers();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let ReaderPlace::Elsewhere {
        commit: Some(first),
    } = listed[0].place
    else {
        panic!("{listed:?}");
    };
    assert_eq!(listed[0].transaction, Some(first_transaction));
    assert!(listed[0].pages > 4, "{listed:?}");
    assert_eq!(writer.statistics().readers, 1);
    let later = read(shared.handle());
    let places: Vec<_> = later.readers().iter().map(|reader| reader.place).collect();
    assert_eq!(
        places,
        [ReaderPlace::Elsewhere {
            commit: Some(first)
        }],
        "each is told of the others"
    );
    let view = writer.begin_read().unwrap();
    rewrite(&writer, 3, Durability::Immediate);
    let places: Vec<_> = writer.readers().iter().map(|reader| reader.place).collect();
    assert_eq!(places[0], ReaderPlace::Here);
    assert_eq!(places.len(), 3);
    drop((reader, same, later, view));
    assert_eq!(shared.held(), [0], "the writer's own mark is left");
    rewrite(&writer, 4, Durability::Immediate);
    assert_eq!(writer.readers(), []);
    assert_eq!(writer.statistics().kept_pages, 0);
}

#[test]
fn a_reader_of_a_file_that_was_left_by_a_dead_writer_shows_its_newest_whole_commit() {
    let shared = Arc::new(Shared::default());
    let writer = create(&shared.handle());
    rewrite(&writer, 1, Durability::Immediate);
    writer.kill();
    let before = shared.held();
    assert_eq!(before, []);
    let reader = read(shared.handle());
    assert_eq!(state(&reader).version, 1);
    assert!(reader.statistics().syncs > 0, "what it shows is durable");
}

#[test]
fn what_is_not_known_to_be_durable_is_not_shown() {
    let shared = Arc::new(Shared::default());
    let handle = shared.handle();
    let writer = create(&handle);
    for version in 1..10 {
        rewrite(&writer, version, Durability::Immediate);
        let shown = Arc::new(Mutex::new(None));
        handle.in_sync({
            let (shared, shown) = (shared.clone(), shown.clone());
            move || *shown.lock().unwrap() = Some(state(&read(shared.handle())).version)
        });
        rewrite(&writer, version + 1, Durability::Immediate);
        assert_eq!(*shown.lock().unwrap(), Some(version));
    }
}

#[test]
fn beside_a_writer_nothing_is_synced_to_open() {
    let shared = Arc::new(Shared::default());
    let writer = create(&shared.handle());
    rewrite(&writer, 1, Durability::Immediate);
    let reader = read(shared.handle());
    assert_eq!(reader.statistics().syncs, 0);
    assert_eq!(state(&reader).version, 1);
}

#[test]
fn without_pins_a_page_that_was_used_again_is_told_as_such() {
    let shared = Arc::new(Shared::default());
    let writer = create(&shared.handle());
    rewrite(&writer, 1, Durability::Immediate);
    let reader = read(shared.handle_without_pins());
    wear(&writer, 1);
    let view = reader.begin_read().unwrap();
    let failed = view.tables().map(drop);
    assert!(matches!(failed, Err(Error::Outlived { .. })), "{failed:?}");
}
