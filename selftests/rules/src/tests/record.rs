// SPDX-License-Identifier: GPL-2.0-only

//! The record of the entries: what is kept up to date is what a look at all of them would find.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;

use crate::rules::record::{Record, Set};

const ENTRIES: usize = 3;
const TAGS: [u16; 2] = [0, 7];

/// How often something was looked at, or changed.
type Steps = Rc<Cell<usize>>;

/// A set that counts what is asked of it.
#[derive(Clone, Debug)]
struct Marks {
    there: Vec<bool>,
    steps: Steps,
}

impl Marks {
    fn new(entries: usize, steps: &Steps) -> Self {
        Self {
            there: vec![false; entries],
            steps: steps.clone(),
        }
    }

    fn step(&self) {
        self.steps.set(self.steps.get() + 1);
    }
}

impl Set for Marks {
    fn add(&mut self, entry: usize) {
        self.step();
        self.there[entry] = true;
    }

    fn remove(&mut self, entry: usize) {
        self.step();
        self.there[entry] = false;
    }

    fn next(&self, from: usize) -> Option<usize> {
        self.step();
        (from..self.there.len()).find(|&entry| self.there[entry])
    }
}

/// Tags that count how often they are looked at.
#[derive(Clone, Debug)]
struct Wanted {
    tags: Vec<u16>,
    steps: Steps,
}

impl Deref for Wanted {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        self.steps.set(self.steps.get() + 1);
        &self.tags
    }
}

impl DerefMut for Wanted {
    fn deref_mut(&mut self) -> &mut [u16] {
        self.steps.set(self.steps.get() + 1);
        &mut self.tags
    }
}

type Table = Record<Wanted, Marks>;

/// A table of entries that are to be 0, of which nothing is known, and what is done to it.
fn table(entries: usize) -> (Table, Steps) {
    let steps = Steps::default();
    let wanted = Wanted {
        tags: vec![0; entries],
        steps: steps.clone(),
    };
    let [due, witnesses] = [(); 2].map(|()| Marks::new(entries, &steps));
    (Record::new(wanted, due, witnesses), steps)
}

/// An entry as it is, looked at by itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Entry {
    wanted: u16,
    due: bool,
}

type Model = [Entry; ENTRIES];

/// What can be done to a record.
#[derive(Clone, Debug)]
enum Event {
    AllDue,
    Due(Range<usize>),
    Want(usize, u16),
    Renew(usize, u16),
    Exchange(Range<usize>, Vec<u16>),
    Clear,
    LeaveToReset,
    /// The first so many of the entries that are due, in one go.
    Written(usize),
}

fn events() -> Vec<Event> {
    let mut events = vec![Event::AllDue, Event::Clear, Event::LeaveToReset];
    // One that is not there changes nothing.
    for entry in 0..=ENTRIES {
        events.extend(TAGS.map(|tag| Event::Want(entry, tag)));
        events.extend(TAGS.map(|tag| Event::Renew(entry, tag)));
    }
    for start in 0..=ENTRIES {
        for end in start..=ENTRIES {
            events.push(Event::Due(start..end));
            for tags in 0..1 << (end - start) {
                let tag = |bit: usize| TAGS[(tags >> bit) & 1];
                let tags = (0..end - start).map(tag).collect();
                events.push(Event::Exchange(start..end, tags));
            }
        }
    }
    events.extend((1..=ENTRIES).map(Event::Written));
    events
}

fn first_due(model: &Model) -> Option<usize> {
    model.iter().position(|entry| entry.due)
}

/// Does the same to both. Whether it can be done at all.
fn happens(event: &Event, record: &mut Table, model: &mut Model) -> bool {
    let any = model.iter().any(|entry| entry.wanted != 0);
    match event.clone() {
        Event::AllDue => {
            record.all_due();
            for entry in model {
                entry.due = true;
            }
        }
        Event::Due(entries) => {
            record.make_due(entries.clone());
            for entry in &mut model[entries] {
                entry.due = true;
            }
        }
        Event::Want(at, tag) | Event::Renew(at, tag) => {
            let always = matches!(event, Event::Renew(..));
            let before = model.get_mut(at);
            let before = before.filter(|entry| always || entry.wanted != tag);
            let before = before.map(|entry| {
                let wanted = entry.wanted;
                *entry = Entry {
                    wanted: tag,
                    due: true,
                };
                wanted
            });
            let found = match always {
                true => record.renew(at, tag),
                false => record.want(at, tag),
            };
            assert_eq!(found, before);
        }
        Event::Exchange(entries, mut tags) => {
            let expected: Vec<u16> = model[entries.clone()]
                .iter()
                .map(|entry| entry.wanted)
                .collect();
            for (entry, &wanted) in model[entries.clone()].iter_mut().zip(&tags) {
                *entry = Entry { wanted, due: true };
            }
            record.exchange(entries, &mut tags);
            assert_eq!(tags, expected);
        }
        Event::Clear => {
            *model = model.map(|entry| Entry {
                wanted: 0,
                due: entry.due || entry.wanted != 0,
            });
            assert_eq!(record.clear(), any);
        }
        Event::LeaveToReset => {
            *model = model.map(|entry| Entry { wanted: 0, ..entry });
            assert_eq!(record.leave_to_reset(), any);
        }
        Event::Written(count) => {
            let Some(first) = first_due(model) else {
                return false;
            };
            let entries = first..first + count;
            match model.get_mut(entries.clone()) {
                Some(run) if run.iter().all(|entry| entry.due) => {
                    run.iter_mut().for_each(|entry| entry.due = false);
                }
                _ => return false,
            }
            record.written(entries);
        }
    }
    true
}

fn check(record: &Table, model: &Model, event: &Event) {
    let wanted = model.map(|entry| entry.wanted);
    assert_eq!(record.wanted(), wanted, "{event:?}");
    assert_eq!(record.first_due(), first_due(model), "{event:?}: {model:?}");
    for (at, entry) in model.iter().enumerate() {
        assert_eq!(record.is_due(at), entry.due, "{event:?}: {model:?}");
    }
    let tells = |entry: &Entry| entry.wanted != 0 && !entry.due;
    match record.witness() {
        Some(at) => assert!(tells(&model[at]), "{event:?}: {at} of {model:?}"),
        None => assert!(!model.iter().any(tells), "{event:?}: none of {model:?}"),
    }
}

/// Everything that can happen, in every state that there is: a witness is an entry that hardware
/// holds and that is not 0, and there is none only if there is no such entry; the first entry that
/// is due is the first one.
#[test]
fn r77_every_event_in_every_state() {
    let start = [Entry {
        wanted: 0,
        due: true,
    }; ENTRIES];
    let mut seen = HashSet::from([start]);
    let mut left = vec![(table(ENTRIES).0, start)];
    let events = events();
    while let Some((record, model)) = left.pop() {
        for event in &events {
            let (mut record, mut model) = (record.clone(), model);
            if happens(event, &mut record, &mut model) {
                check(&record, &model, event);
                if seen.insert(model) {
                    left.push((record, model));
                }
            }
        }
    }
    // Any tag, due or not, in each entry.
    assert_eq!(seen.len(), 4usize.pow(ENTRIES as u32));
}

/// A table without entries has nothing that is due, and no witness.
#[test]
fn r77_no_entry_at_all() {
    let (mut record, _) = table(0);
    assert_eq!((record.first_due(), record.witness()), (None, None));
    assert!(!record.clear() && !record.leave_to_reset());
    assert_eq!(record.want(0, 1), None);
}

/// What an event of one entry takes does not depend on how many there are.
#[test]
fn r94_one_entry_of_a_large_table() {
    let steps = |entries: usize| {
        let (mut record, steps) = table(entries);
        record.written(0..entries);
        steps.set(0);
        let last = entries - 1;
        assert_eq!(record.want(last, 1), Some(0));
        assert_eq!((record.first_due(), record.witness()), (Some(last), None));
        record.written(last..entries);
        assert_eq!((record.first_due(), record.witness()), (None, Some(last)));
        record.exchange(0..1, &mut [2]);
        assert!(record.is_due(0));
        record.written(0..1);
        steps.get()
    };
    assert_eq!(steps(2048), steps(2));
}
