// SPDX-License-Identifier: GPL-2.0-only

//! What every thread is doing, so that one that hangs can be named.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time for one operation: resets of a bus take seconds, on a sanitizer kernel under TCG
/// many.
const DEADLINE: Duration = Duration::from_secs(150);

struct Doing {
    what: String,
    since: Instant,
}

/// The watchdog: ends the process when a thread does one thing for too long.
#[derive(Clone)]
pub struct Watch(Arc<Mutex<Vec<Doing>>>);

/// One thread's part of it.
pub struct Place {
    watch: Watch,
    index: usize,
}

impl Watch {
    /// Starts it.
    pub fn start() -> Self {
        let watch = Watch(Arc::default());
        let seen = watch.clone();
        thread::spawn(move || loop {
            thread::sleep(Duration::from_secs(1));
            if seen.late() {
                seen.bail_out();
            }
        });
        watch
    }

    fn doing<T>(&self, f: impl FnOnce(&mut Vec<Doing>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A place for the calling thread.
    pub fn place(&self, what: &str) -> Place {
        let doing = Doing {
            what: what.to_owned(),
            since: Instant::now(),
        };
        let index = self.doing(|all| {
            all.push(doing);
            all.len() - 1
        });
        Place {
            watch: self.clone(),
            index,
        }
    }

    fn late(&self) -> bool {
        self.doing(|all| {
            all.iter()
                .any(|one| !one.what.is_empty() && one.since.elapsed() > DEADLINE)
        })
    }

    /// Says who does what, and where in the kernel, and ends the process.
    fn bail_out(&self) -> ! {
        println!("Bail out! an operation has not ended after {DEADLINE:?}");
        self.doing(|all| {
            for one in all.iter().filter(|one| !one.what.is_empty()) {
                println!("# for {:?}: {}", one.since.elapsed(), one.what);
            }
        });
        for task in fs::read_dir("/proc/self/task")
            .into_iter()
            .flatten()
            .flatten()
        {
            let stack = fs::read_to_string(task.path().join("stack")).unwrap_or_default();
            println!("# {}:", task.path().display());
            stack.lines().for_each(|line| println!("#   {line}"));
        }
        // All that wait, and the locks that they hold, to the kernel's log.
        let _ = fs::write("/proc/sysrq-trigger", "w");
        let _ = fs::write("/proc/sysrq-trigger", "d");
        // SAFETY: takes no memory; exit handlers could wait for the thread that hangs.
        unsafe { libc::_exit(1) }
    }
}

impl Place {
    /// The thread begins something.
    pub fn begin(&self, what: String) {
        self.watch.doing(|all| {
            all[self.index] = Doing {
                what,
                since: Instant::now(),
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.begin(String::new());
    }
}
