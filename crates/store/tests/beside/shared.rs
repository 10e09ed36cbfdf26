//! Bytes in memory that several handles share, as processes share a file, and moments at which something else happens.

use std::{
    collections::BTreeSet,
    io::{self, IoSlice},
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use folio_store::storage::{MemoryStorage, Pins, Storage};

/// The bytes, and which handle holds which numbers.
#[derive(Debug, Default)]
pub struct Shared {
    bytes: MemoryStorage,
    held: Mutex<BTreeSet<(u64, u64)>>,
    handles: AtomicU64,
}

type Act = Box<dyn FnOnce() + Send>;

/// One handle. Its calls are made of steps, between which others may look: a write is there by halves, and so is what is
/// read.
pub struct Handle {
    shared: Arc<Shared>,
    id: u64,
    steps: AtomicU64,
    act: Mutex<Option<(u64, Act)>>,
    /// What happens in the next sync, before it returns.
    in_sync: Mutex<Option<Act>>,
    pinning: bool,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Shared {
    pub fn handle(self: &Arc<Self>) -> Arc<Handle> {
        self.handle_with(true)
    }

    /// A handle that sees no pins and makes none.
    pub fn handle_without_pins(self: &Arc<Self>) -> Arc<Handle> {
        self.handle_with(false)
    }

    fn handle_with(self: &Arc<Self>, pinning: bool) -> Arc<Handle> {
        Arc::new(Handle {
            shared: self.clone(),
            id: self.handles.fetch_add(1, Ordering::Relaxed),
            steps: AtomicU64::new(0),
            act: Mutex::new(None),
            in_sync: Mutex::new(None),
            pinning,
        })
    }

    /// All that is held, by whomever.
    pub fn held(&self) -> Vec<u64> {
        let held = self.held.lock().unwrap();
        held.iter().map(|&(number, _)| number).collect()
    }
}

impl Handle {
    /// Does something before the step that comes after `steps` others.
    pub fn after(&self, steps: u64, act: impl FnOnce() + Send + 'static) {
        let at = self.steps.load(Ordering::Relaxed) + steps;
        *self.act.lock().unwrap() = Some((at, Box::new(act)));
    }

    /// Does something in the next sync, when all is written and nothing is known to be durable.
    pub fn in_sync(&self, act: impl FnOnce() + Send + 'static) {
        *self.in_sync.lock().unwrap() = Some(Box::new(act));
    }

    /// Whether what was to be done is still to come; it is forgotten then.
    pub fn forget(&self) -> bool {
        self.act.lock().unwrap().take().is_some()
    }

    fn step(&self) {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        let due = {
            let mut act = self.act.lock().unwrap();
            match act.take() {
                Some((at, due)) if at <= step => Some(due),
                later => {
                    *act = later;
                    None
                }
            }
        };
        if let Some(act) = due {
            act();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut held = self.shared.held.lock().unwrap();
        held.retain(|&(_, id)| id != self.id);
    }
}

impl Storage for Handle {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.step();
        let (first, second) = buffer.split_at_mut(buffer.len() / 2);
        self.shared.bytes.read_at(offset, first)?;
        self.step();
        self.shared
            .bytes
            .read_at(offset + first.len() as u64, second)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.step();
        let bytes: Vec<u8> = buffers.iter().flat_map(|part| part.to_vec()).collect();
        // Within what an acknowledgement has in it, too.
        let half = (bytes.len() / 2).min(if bytes.len() == 512 { 20 } else { usize::MAX });
        let (first, second) = bytes.split_at(half);
        self.shared.bytes.write_at(offset, &[IoSlice::new(first)])?;
        self.step();
        self.shared
            .bytes
            .write_at(offset + half as u64, &[IoSlice::new(second)])
    }

    fn sync(&self) -> io::Result<()> {
        self.step();
        let act = self.in_sync.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
        self.shared.bytes.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.step();
        self.shared.bytes.len()
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        self.step();
        self.shared.bytes.grow(from, to)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.step();
        self.shared.bytes.truncate(len)
    }

    fn pins(&self) -> Option<&dyn Pins> {
        self.pinning.then_some(self)
    }

    fn name(&self) -> String {
        "shared".into()
    }
}

impl Pins for Handle {
    fn hold(&self, number: u64) -> io::Result<()> {
        self.step();
        self.shared.held.lock().unwrap().insert((number, self.id));
        Ok(())
    }

    fn release(&self, number: u64) -> io::Result<()> {
        self.step();
        self.shared.held.lock().unwrap().remove(&(number, self.id));
        Ok(())
    }

    fn held(&self, numbers: Range<u64>) -> io::Result<Option<u64>> {
        self.step();
        let held = self.shared.held.lock().unwrap();
        let of_others = held
            .range((numbers.start, 0)..(numbers.end, 0))
            .filter(|&&(_, id)| id != self.id);
        // Not the least one: any.
        Ok(of_others.map(|&(number, _)| number).last())
    }
}
