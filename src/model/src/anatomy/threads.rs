//! Work shared by threads that are gone when it is done: the host's pool is left alone, and no thread is still on its way
//! out when the host unloads the library.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What `of` makes of each item, in their order; by `threads` threads, this one among them, or as many as can be had.
pub(super) fn each<T: Send, R: Send>(
    threads: usize,
    items: impl Iterator<Item = T> + Send,
    of: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(items.enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut made = Vec::new();
        while let Some((index, item)) = next() {
            made.push((index, of(item)));
        }
        made
    };
    let mut made = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (1..threads).map_while(start).collect();
        let mut made = work();
        for helper in helpers {
            made.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        made
    });
    made.sort_unstable_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, made)| made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn all_is_made_in_order_by_as_many_threads_as_asked_for() {
        for threads in [1, 3] {
            // Nobody goes on before all of the threads have begun.
            let begun = Barrier::new(threads);
            let made = each(threads, 0..threads * 5, |item| {
                if item < threads {
                    begun.wait();
                }
                10 * item
            });
            assert_eq!(made, (0..threads * 5).map(|item| 10 * item).collect::<Vec<_>>());
        }
        assert!(each(3, 0..0, |item: i32| item).is_empty());
    }

    #[test]
    fn a_panic_is_the_callers() {
        let failing = || each(2, 0..9, |item| assert_ne!(item, 5));
        assert!(std::panic::catch_unwind(failing).is_err());
    }
}
