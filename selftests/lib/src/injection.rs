// SPDX-License-Identifier: GPL-2.0-only

//! Fault injection, Documentation/fault-injection of the kernel: one allocation, or one copy from
//! or to user memory, of what this thread has the kernel do fails. All of them, one after the
//! other: [`each_fault`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str;

use nix::errno::Errno;

use crate::{errno, skip};

const DEBUGFS: &str = "/sys/kernel/debug";
const FAIL_NTH: &str = "/proc/thread-self/fail-nth";
const MAKE_IT_FAIL: &str = "/proc/thread-self/make-it-fail";
/// More than there are points in any call.
const MANY: u32 = 1_000_000;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An object of the slab allocator.
    Slab,
    /// Pages.
    Page,
    /// A copy from or to user memory.
    Usercopy,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Slab, Kind::Page, Kind::Usercopy];

    fn directory(self) -> &'static str {
        match self {
            Kind::Slab => "failslab",
            Kind::Page => "fail_page_alloc",
            Kind::Usercopy => "fail_usercopy",
        }
    }

    /// How often it may still fail: what has counted down tells what failed.
    fn times(self) -> String {
        format!("{}/times", self.directory())
    }

    /// Begins to count its faults.
    fn count(self) {
        set(&self.times(), &MANY.to_string());
    }

    /// How many there were since.
    fn counted(self) -> u32 {
        let path = Path::new(DEBUGFS).join(self.times());
        let text = fs::read_to_string(path).expect("times");
        MANY - text.trim().parse::<u32>().expect("a number")
    }

    /// What a call answers that has nothing better to say.
    pub fn errno(self) -> Errno {
        match self {
            Kind::Slab | Kind::Page => Errno::ENOMEM,
            Kind::Usercopy => Errno::EFAULT,
        }
    }
}

/// What is set for as long as faults are injected, and what it is otherwise. An allocation that may
/// wait never fails unless it is said here; pages of user space are not the kernel's business.
const SETTINGS: [(&str, &str, &str); 7] = [
    ("failslab/ignore-gfp-wait", "N", "Y"),
    ("failslab/verbose", "0", "2"),
    ("fail_page_alloc/ignore-gfp-wait", "N", "Y"),
    ("fail_page_alloc/ignore-gfp-highmem", "Y", "Y"),
    ("fail_page_alloc/min-order", "0", "1"),
    ("fail_page_alloc/verbose", "0", "2"),
    ("fail_usercopy/verbose", "0", "2"),
];

/// What is set for as long as everything fails, of the threads that say so of themselves.
const EVERY: [(&str, &str); 3] = [
    ("failslab/task-filter", "Y"),
    ("failslab/interval", "1"),
    ("failslab/probability", "100"),
];

fn set(file: &str, value: &str) {
    let path = Path::new(DEBUGFS).join(file);
    fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Injects faults into the calls of the thread that made it.
pub struct Injector {
    fail_nth: File,
    make_it_fail: File,
    /// The files are about a thread.
    _thread: PhantomData<*const ()>,
}

impl Injector {
    /// Leaves the test out on a kernel without fault injection.
    pub fn new() -> Self {
        for kind in Kind::ALL {
            if !Path::new(DEBUGFS).join(kind.directory()).exists() {
                skip!("the kernel has no {}", kind.directory());
            }
        }
        for (file, value, _) in SETTINGS {
            set(file, value);
        }
        let open = |path: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        Self {
            fail_nth: open(FAIL_NTH),
            make_it_fail: open(MAKE_IT_FAIL),
            _thread: PhantomData,
        }
    }

    /// Has the `n`th allocation or copy of `call` fail, from 1 on, and says what it was: nothing if
    /// there are not that many.
    pub fn nth<R>(&self, n: u32, call: impl FnOnce() -> R) -> (R, Option<Kind>) {
        let number = n.to_string();
        for kind in Kind::ALL {
            kind.count();
        }
        self.fail_nth
            .write_all_at(number.as_bytes(), 0)
            .expect(FAIL_NTH);
        let result = call();
        let left = self.disarm();
        if left == Ok(0) {
            let kind = Kind::ALL.into_iter().find(|kind| kind.counted() > 0);
            return (result, Some(kind.expect("one of the kinds has counted")));
        }
        assert_ne!(left, Ok(1), "the next copy was to fail, and did not");
        (result, None)
    }

    /// Has every slab allocation of `call` fail: there are those who ask again in another way. Says
    /// how many there were.
    pub fn every<R>(&self, call: impl FnOnce() -> R) -> (R, u32) {
        for (file, value) in EVERY {
            set(file, value);
        }
        Kind::Slab.count();
        self.make_it_fail.write_all_at(b"1", 0).expect(MAKE_IT_FAIL);
        let result = call();
        self.spare();
        (result, Kind::Slab.counted())
    }

    /// Ends what [`Self::every`] began.
    fn spare(&self) {
        // In this order: to open a file takes memory.
        self.make_it_fail.write_all_at(b"0", 0).expect(MAKE_IT_FAIL);
        set("failslab/probability", "0");
    }

    /// Ends what [`Self::nth`] began. How far away the fault still was: 0 if it has been injected,
    /// an error if it was next.
    fn disarm(&self) -> Result<u32, Errno> {
        // Both calls copy, and so count themselves: the first that reaches the fault fails, and
        // with that it is over, too.
        let mut text = [0; 16];
        let length = self.fail_nth.read_at(&mut text, 0).map_err(errno)?;
        let text = str::from_utf8(&text[..length]).expect(FAIL_NTH);
        let left = text.trim().parse().expect(FAIL_NTH);
        if left > 0 {
            let _ = self.fail_nth.write_at(b"0", 0);
        }
        Ok(left)
    }
}

impl Default for Injector {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        // A call may have panicked, in either way to make it fail.
        let _ = self.disarm();
        self.spare();
        for (file, _, value) in SETTINGS {
            set(file, value);
        }
    }
}

/// A call in which something failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Its number, from 1 on; 0 for all allocations.
    pub n: u32,
    /// What failed.
    pub kind: Kind,
    /// What the call made of that.
    pub result: Result<(), Errno>,
}

/// What calls answer: kinds of faults, and the errors that came of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// All that were given.
    pub errors: BTreeSet<(Kind, i32)>,
    /// Number of faults that were injected, of each kind.
    pub faults: BTreeMap<Kind, u32>,
}

impl Answers {
    fn add(&mut self, attempt: &Attempt, faults: u32) {
        *self.faults.entry(attempt.kind).or_default() += faults;
        if let Err(error) = attempt.result {
            self.errors.insert((attempt.kind, error as i32));
        }
    }

    /// Those of two calls.
    pub fn and(mut self, other: Answers) -> Answers {
        for (kind, faults) in other.faults {
            *self.faults.entry(kind).or_default() += faults;
        }
        self.errors.extend(other.errors);
        self
    }

    /// The errors that are not what is expected of a fault of that kind.
    fn odd(&self) -> BTreeSet<(Kind, i32)> {
        let odd = |&&(kind, error): &&(Kind, i32)| Errno::from_raw(error) != kind.errno();
        self.errors.iter().filter(odd).copied().collect()
    }

    /// Fails the test if there is an error that is not what is expected of that kind of fault.
    #[track_caller]
    pub fn assert_plain(&self, what: &str) {
        assert!(self.odd().is_empty(), "{what}: {:?}", self.odd());
    }

    /// The same, but for what `others` answer too; they are asked only if need be. An object and a
    /// page are both memory here: whether the allocator has to ask for a page when it is asked for
    /// an object depends on what it happens to have left.
    #[track_caller]
    pub fn assert_as(&self, what: &str, others: impl FnOnce() -> Answers) {
        let odd = self.odd();
        if odd.is_empty() {
            return;
        }
        let others = others();
        let both = |errors: &BTreeSet<(Kind, i32)>| -> BTreeSet<(Kind, i32)> {
            let memory = |&(kind, error): &(Kind, i32)| match kind {
                Kind::Slab | Kind::Page => (Kind::Slab, error),
                Kind::Usercopy => (kind, error),
            };
            errors.iter().map(memory).collect()
        };
        assert!(
            both(&odd).is_subset(&both(&others.errors)),
            "{what}: {odd:?}, others answer {:?}",
            others.errors
        );
    }
}

/// What fails in a call that neither copies nor takes memory. Should it ever, that is injected,
/// too: [`Injector::nth`] sees to it that the fault was there to be met all the time.
pub const NOTHING: &[Kind] = &[];

/// Has each allocation and each copy of `call` fail once, and at last all allocations; without a
/// fault it succeeds. Each of `kinds` must have failed, or the test fails. `prepare` comes before
/// each call, `after` looks at what one with a fault has left. A call may get along without what it
/// did not get.
pub fn each_fault(
    what: &str,
    kinds: &[Kind],
    mut prepare: impl FnMut(),
    call: impl Fn() -> Result<(), Errno>,
    mut after: impl FnMut(&Attempt),
) -> Answers {
    let injector = Injector::new();
    let mut answers = Answers::default();
    for n in 1.. {
        prepare();
        let (result, fault) = injector.nth(n, &call);
        let Some(kind) = fault else {
            assert_eq!(result, Ok(()), "{what}: without a fault");
            break;
        };
        let attempt = Attempt { n, kind, result };
        answers.add(&attempt, 1);
        after(&attempt);
    }
    let met = |kind: &Kind| answers.faults.contains_key(kind);
    assert!(kinds.iter().all(met), "{what}: only {:?}", answers.faults);

    prepare();
    let (result, faults) = injector.every(&call);
    let kind = Kind::Slab;
    if faults > 0 {
        let attempt = Attempt { n: 0, kind, result };
        answers.add(&attempt, faults);
        after(&attempt);
    } else {
        assert!(!kinds.contains(&kind), "{what}: every allocation, but none");
        assert_eq!(result, Ok(()), "{what}: without a fault");
    }
    println!(
        "# {what}: faults {:?}, errors {:?}",
        answers.faults, answers.errors
    );
    answers
}

/// The same, and after each failure the call succeeds when it is made again.
pub fn each_fault_and_again(
    what: &str,
    kinds: &[Kind],
    prepare: impl FnMut(),
    call: impl Fn() -> Result<(), Errno>,
    mut after: impl FnMut(&Attempt),
) -> Answers {
    each_fault(what, kinds, prepare, &call, |attempt| {
        after(attempt);
        if attempt.result.is_err() {
            assert_eq!(call(), Ok(()), "{what}: again, after {attempt:?}");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::panic::catch_unwind;

    fn answers(errors: &[(Kind, Errno)]) -> Answers {
        let errors = errors.iter().map(|&(kind, error)| (kind, error as i32));
        Answers {
            errors: errors.collect(),
            faults: BTreeMap::new(),
        }
    }

    /// Whether `ours` will do beside `others`.
    fn as_others(ours: (Kind, Errno), others: (Kind, Errno)) -> bool {
        catch_unwind(|| answers(&[ours]).assert_as("a call", || answers(&[others]))).is_ok()
    }

    #[test]
    fn pages_and_objects_are_memory_for_others() {
        let (slab, page) = ((Kind::Slab, Errno::ENOSPC), (Kind::Page, Errno::ENOSPC));
        assert!(as_others(slab, page) && as_others(page, slab));
        assert!(as_others(page, page));
        assert!(!as_others(page, (Kind::Page, Errno::EBUSY)));
        let copy = (Kind::Usercopy, Errno::ENOSPC);
        assert!(as_others(copy, copy));
        assert!(!as_others(copy, page) && !as_others(page, copy));
    }

    #[test]
    fn others_are_asked_only_if_need_be() {
        let plain = [(Kind::Page, Errno::ENOMEM), (Kind::Usercopy, Errno::EFAULT)];
        answers(&plain).assert_plain("a call");
        answers(&plain).assert_as("a call", || unreachable!());
    }
}
