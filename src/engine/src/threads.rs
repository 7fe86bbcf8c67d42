//! The engine's own threads: a rayon pool that is gone, threads and all, when it is dropped. Rayon itself only tells its
//! threads to end; one that is still on its way out when the host unloads the library would run code that is not there.

use adaptmedseg_model::host::Workers;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::{fmt, io};

/// What a thread does before all else.
pub(crate) type OnStart = Arc<dyn Fn() + Send + Sync>;

/// A pool of threads that are joined on drop.
pub(crate) struct Threads {
    /// `None` only while dropping.
    pool: Option<ThreadPool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts `count` threads, each with `on_start`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn new(count: usize, on_start: Option<OnStart>) -> io::Result<Self> {
        let handles = Mutex::new(Vec::with_capacity(count));
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .spawn_handler(|thread| {
                let name = format!("adaptmedseg-{}", thread.index());
                let on_start = on_start.clone();
                let handle = std::thread::Builder::new().name(name).spawn(move || {
                    on_start.iter().for_each(|start| start());
                    thread.run();
                })?;
                handles.lock().expect("no thread panics with it").push(handle);
                Ok(())
            })
            .build()
            .map_err(io::Error::other)?;
        Ok(Self { pool: Some(pool), handles: handles.into_inner().expect("no thread panics with it") })
    }

    /// Runs `work` on the pool, where all of rayon's and Burn's parallel work stays.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.as_ref().expect("there until dropped").install(work)
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("count", &self.handles.len()).finish_non_exhaustive()
    }
}

impl Workers for Threads {
    fn run(&self, work: &mut (dyn FnMut() + Send)) {
        self.install(work);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        drop(self.pool.take());
        let this = std::thread::current().id();
        for handle in self.handles.drain(..) {
            // Work that owns the engine may drop it on one of these threads, which cannot wait for itself.
            if handle.thread().id() != this {
                // A panic in a job is carried to `install`; the thread itself does not panic.
                let _ = handle.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    thread_local!(static ALIVE: std::cell::RefCell<Option<Guard>> = const { std::cell::RefCell::new(None) });

    struct Guard(Arc<AtomicUsize>);

    impl Drop for Guard {
        fn drop(&mut self) {
            std::thread::sleep(std::time::Duration::from_millis(50));
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn no_thread_outlives_the_pool() {
        let alive = Arc::new(AtomicUsize::new(0));
        let threads = Threads::new(3, None).expect("three threads");
        threads.install(|| {
            rayon::broadcast(|_| {
                alive.fetch_add(1, Ordering::SeqCst);
                ALIVE.set(Some(Guard(alive.clone())));
            });
        });
        assert_eq!(alive.load(Ordering::SeqCst), 3);
        drop(threads);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}
