//! Anything, in any order.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use folio_store::{BackupOptions, Database, Durability, GroupSet};

use super::{
    Blobs, SplitMix64, State, append, check_whole, compact, rewrite,
    shared::{Handle, Shared},
    state,
};

struct Reader {
    db: Database,
    /// Of what it shows; equal once it was looked at.
    least: State,
    most: State,
}

#[derive(Clone, Copy)]
struct Model {
    published: State,
    durable: State,
}

struct World {
    random: SplitMix64,
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    writer: Option<Database>,
    model: Arc<Mutex<Model>>,
    readers: Arc<Mutex<Vec<Reader>>>,
}

fn open_reader(shared: &Arc<Shared>, model: &Mutex<Model>, readers: &Mutex<Vec<Reader>>) {
    let model = *model.lock().unwrap();
    let db = Database::builder()
        .cache_size(0)
        .open_read_only_on(shared.handle())
        .unwrap();
    let newest = State {
        version: model.published.version + 1,
        log: model.published.log + 1,
    };
    readers.lock().unwrap().push(Reader {
        db,
        least: model.durable,
        most: newest,
    });
}

impl World {
    fn new(seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let handle = shared.handle();
        let writer = Database::builder()
            .cache_size(64 * 4096)
            .growth(4096, 1 << 20)
            .create_on(handle.clone())
            .unwrap();
        rewrite(&writer, 1, Durability::Immediate);
        append(&writer, Durability::Immediate);
        let state = State { version: 1, log: 1 };
        Self {
            random: SplitMix64::new(seed),
            shared,
            handle,
            writer: Some(writer),
            model: Arc::new(Mutex::new(Model {
                published: state,
                durable: state,
            })),
            readers: Arc::default(),
        }
    }

    fn writer(&self) -> &Database {
        self.writer.as_ref().unwrap()
    }

    fn durability(&mut self) -> Durability {
        match self.random.below(3) {
            0 => Durability::Eventual,
            _ => Durability::Immediate,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Model)) {
        change(&mut self.model.lock().unwrap());
    }

    fn all_durable(&self) {
        self.change(|model| model.durable = model.published);
    }

    fn reopen(&mut self) {
        self.handle = self.shared.handle();
        let step = self.random.below(60);
        self.maybe_read_meanwhile(step);
        let db = Database::builder()
            .cache_size(64 * 4096)
            .growth(4096, 1 << 20)
            .open_on(self.handle.clone())
            .unwrap();
        let durable = self.model.lock().unwrap().durable;
        assert_eq!(state(&db), durable);
        self.change(|model| model.published = model.durable);
        self.writer = Some(db);
    }

    /// Lets a reader open in the middle of what the writer does next.
    fn maybe_read_meanwhile(&mut self, steps: u64) {
        if self.random.below(3) == 0 {
            let (shared, model) = (self.shared.clone(), self.model.clone());
            let readers = self.readers.clone();
            self.handle
                .after(steps, move || open_reader(&shared, &model, &readers));
        }
    }

    fn act(&mut self) {
        let steps = self.random.below(40);
        self.maybe_read_meanwhile(steps);
        match self.random.below(20) {
            0..5 => {
                let durability = self.durability();
                let version = self.model.lock().unwrap().published.version + 1;
                rewrite(self.writer(), version, durability);
                self.change(|model| {
                    model.published.version = version;
                    if durability == Durability::Immediate {
                        model.durable.version = version;
                    }
                });
            }
            5..9 => {
                let durability = self.durability();
                append(self.writer(), durability);
                self.change(|model| {
                    model.published.log += 1;
                    if durability == Durability::Immediate {
                        model.durable.log = model.published.log;
                    }
                });
            }
            9 => {
                self.writer().checkpoint(GroupSet::ALL).unwrap();
                self.all_durable();
            }
            10 => {
                compact(self.writer());
                self.all_durable();
            }
            11 => {
                self.writer.take().unwrap().close().unwrap();
                self.all_durable();
                self.reopen();
            }
            12 => {
                self.writer.take().unwrap().kill();
                self.reopen();
            }
            13 | 14 => self.blobs(),
            15 => {
                // The writer goes on in the middle of the opening of a reader.
                let handle = self.shared.handle();
                let steps = self.random.below(40);
                let commits = 1 + self.random.below(4);
                let least = self.model.lock().unwrap().durable;
                let (writer, model) = (self.writer().clone(), self.model.clone());
                handle.after(steps, move || {
                    for _ in 0..commits {
                        let version = model.lock().unwrap().published.version + 1;
                        rewrite(&writer, version, Durability::Immediate);
                        let mut model = model.lock().unwrap();
                        (model.published.version, model.durable.version) = (version, version);
                    }
                });
                let db = Database::builder()
                    .cache_size(0)
                    .open_read_only_on(handle.clone())
                    .unwrap();
                handle.forget();
                let most = self.model.lock().unwrap().published;
                self.readers
                    .lock()
                    .unwrap()
                    .push(Reader { db, least, most });
            }
            16 => open_reader(&self.shared, &self.model, &self.readers),
            _ => self.look(),
        }
        self.handle.forget();
    }

    /// Adds or removes what takes many pages.
    fn blobs(&mut self) {
        let count = self.random.below(12);
        let remove = self.random.below(2) == 0;
        let txn = self.writer().begin_write().unwrap();
        let mut blobs = txn.table::<Blobs>().unwrap();
        for key in 0..count {
            match remove {
                true => drop(blobs.remove(key).unwrap()),
                false => drop(blobs.insert(key, [key as u8; 9_000].as_slice()).unwrap()),
            }
        }
        drop(blobs);
        match self.random.below(4) {
            0 => txn.abort(),
            _ => {
                txn.commit().unwrap();
                // The tables of a group become durable together.
                self.change(|model| model.durable.version = model.published.version);
            }
        }
    }

    fn look(&mut self) {
        let mut readers = self.readers.lock().unwrap();
        if readers.is_empty() {
            return;
        }
        let index = self.random.below(readers.len() as u64) as usize;
        let reader = &mut readers[index];
        let shown = state(&reader.db);
        assert!(
            shown.lies_between(reader.least, reader.most),
            "{shown:?}, not from {:?} to {:?}",
            reader.least,
            reader.most
        );
        (reader.least, reader.most) = (shown, shown);
        match self.random.below(6) {
            0 => check_whole(&reader.db),
            1 => {
                let go_on = |_, _| ControlFlow::Continue(());
                reader
                    .db
                    .backup(BackupOptions::new(), std::io::sink(), go_on)
                    .unwrap();
            }
            2 | 3 => drop(readers.remove(index)),
            _ => {}
        }
    }

    fn end(mut self) {
        while !self.readers.lock().unwrap().is_empty() {
            self.look();
        }
        let db = self.writer.take().unwrap();
        append(&db, Durability::Immediate);
        append(&db, Durability::Immediate);
        assert_eq!(db.statistics().kept_pages, 0);
        check_whole(&db);
        // Nothing that was kept or withheld is forgotten: a new handle finds as much in use.
        let in_use = |db: &Database| {
            let statistics = db.statistics();
            statistics.length_pages - statistics.free_pages
        };
        let before = in_use(&db);
        db.close().unwrap();
        let again = Database::builder().open_on(self.shared.handle()).unwrap();
        let after = in_use(&again);
        assert!(before.abs_diff(after) < 5, "{before} and {after} in use");
    }
}

#[test]
fn whatever_the_writer_does_each_reader_keeps_what_it_was_opened_at() {
    for seed in 0..16 {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..120).for_each(|_| world.act());
            world.end();
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}
