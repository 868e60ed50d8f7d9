// SPDX-License-Identifier: GPL-2.0-only

//! Which sessions, programs and tests are run: what was asked for, and what the kernel is for.

use anyhow::{bail, Result};

use crate::compared::DRIVERS;
use crate::session::{on_arm64, page_size, patched, sanitizes, Session, Share, LEAN};

/// A program of a session, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Words that the names of its tests must contain one of, or options.
    pub arguments: Vec<String>,
}

impl Program {
    /// From `PROGRAM` or `PROGRAM:ARGUMENT`.
    pub fn parse(text: &str) -> Self {
        let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
        Self {
            name: name.to_owned(),
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// Puts what the caller says in the place of its names.
    pub fn fill_in(&mut self, said: &[(&str, String)]) {
        let mut text = self.arguments.join(" ");
        for (name, words) in said {
            text = text.replace(name, words);
        }
        self.arguments = text.split_whitespace().map(str::to_owned).collect();
    }

    /// As it was parsed.
    pub fn label(&self) -> String {
        match self.arguments.is_empty() {
            true => self.name.clone(),
            false => format!("{}:{}", self.name, self.arguments.join(" ")),
        }
    }
}

/// A session that is run.
#[derive(Clone)]
pub struct Chosen {
    /// Its row in the table.
    pub session: &'static Session,
    /// Its name, and a number if it is run more than once.
    pub label: String,
    /// Which kernel it boots.
    pub kernel: String,
    /// What is run of it.
    pub programs: Vec<Program>,
    /// What is left out on a kernel that is special, and why.
    pub less: Option<String>,
}

impl Chosen {
    /// The names under which the guest announces what it runs, in order.
    pub fn labels(&self) -> Vec<String> {
        let of_driver = |driver: &str| -> Vec<String> {
            let programs = self.programs.iter();
            programs
                .map(|one| format!("{driver} {}", one.name))
                .collect()
        };
        match self.session.compared {
            Some(_) => DRIVERS
                .iter()
                .flat_map(|driver| of_driver(driver))
                .collect(),
            None => self.programs.iter().map(Program::label).collect(),
        }
    }
}

/// All that is run, and what a run of all leaves out, with the reasons.
pub struct Plan {
    /// In the order of the table.
    pub chosen: Vec<Chosen>,
    /// One line each.
    pub left_out: Vec<String>,
}

/// Who knows the names of the tests that a program with these arguments would run.
pub type TestsOf<'a> = &'a dyn Fn(&Program) -> Result<Vec<String>>;

/// What of a session a kernel runs: the programs, and what is less than all. An error says why it
/// is nothing.
fn on_kernel(session: &Session, kernel: &str) -> Result<(Vec<Program>, Option<String>)> {
    let name = session.name;
    if session.kernel.is_some() && kernel != LEAN {
        bail!("{name} boots a kernel of its own, never {kernel}");
    }
    if let (Some(why), false) = (session.patches, patched(kernel)) {
        bail!("{name} is not run on {kernel}: {why}");
    }
    let whole = session.programs.iter().copied();
    let share = match session.arm64 {
        _ if sanitizes(kernel) => session.sanitized,
        _ if !on_arm64(kernel) => Share::Whole,
        Share::Whole if page_size(kernel) > 4 => session.large_pages,
        share => share,
    };
    match share {
        Share::Whole => Ok((whole.map(Program::parse).collect(), None)),
        Share::Not(why) => bail!("{name} is not run on {kernel}: {why}"),
        Share::Less {
            program,
            instead,
            why,
        } => {
            let kept = whole.filter_map(|one| if one == program { instead } else { Some(one) });
            let less = Some(format!("{program}: {why}"));
            Ok((kept.map(Program::parse).collect(), less))
        }
    }
}

/// What a run without any name runs and leaves out.
fn all(sessions: &'static [Session], kernel: &str) -> Plan {
    let mut chosen = Vec::new();
    let mut left_out = Vec::new();
    // Many have one reason.
    let mut named: Vec<(&str, Vec<&str>)> = Vec::new();
    for session in sessions {
        if let Some(why) = session.by_name {
            match named.iter_mut().find(|(reason, _)| *reason == why) {
                Some((_, names)) => names.push(session.name),
                None => named.push((why, vec![session.name])),
            }
            continue;
        }
        match on_kernel(session, kernel) {
            Ok((programs, less)) => chosen.push(Chosen {
                session,
                label: session.name.to_owned(),
                kernel: session.kernel.unwrap_or(kernel).to_owned(),
                programs,
                less,
            }),
            Err(why) => left_out.push(format!("left out: {why}")),
        }
    }
    let line =
        |(why, names): &(&str, Vec<&str>)| format!("left out, as {why}: {}", names.join(" "));
    left_out.extend(named.iter().map(line));
    Plan { chosen, left_out }
}

/// What `wanted` means in a session, `placed` if it was said to be in this one: the programs, or
/// none; an error if it means the session and that is not run.
fn meant(
    session: &Session,
    (placed, wanted): (bool, &str),
    (programs, less): &(Vec<Program>, Option<String>),
    names: &Names,
    tests_of: TestsOf,
) -> Result<Vec<Program>> {
    if wanted == session.name {
        return Ok(programs.clone());
    }
    // Of a place it is asked what there is in it, whatever else may have that name.
    if !placed && names.is_session(wanted) {
        return Ok(Vec::new());
    }
    if names.has(session, wanted) || !placed && names.is_program(wanted) {
        let found: Vec<Program> = programs
            .iter()
            .filter(|p| p.name == wanted)
            .cloned()
            .collect();
        if let (true, Some(less)) = (found.is_empty() && names.has(session, wanted), less) {
            bail!("{wanted} is not run in {}: {less}", session.name);
        }
        return Ok(found);
    }
    if !session.has_tests() {
        return Ok(Vec::new());
    }
    // A word: exactly the tests that have it in their names.
    let mut found = Vec::new();
    for program in programs {
        let mut tests = tests_of(program)?;
        tests.retain(|test| test.contains(wanted));
        if !tests.is_empty() {
            let options = program
                .arguments
                .iter()
                .filter(|word| word.starts_with('-'));
            found.push(Program {
                name: program.name.clone(),
                arguments: options.cloned().chain(tests).collect(),
            });
        }
    }
    Ok(found)
}

/// The names of the table.
struct Names(&'static [Session]);

impl Names {
    fn is_session(&self, name: &str) -> bool {
        self.0.iter().any(|session| session.name == name)
    }

    fn is_program(&self, name: &str) -> bool {
        self.0.iter().any(|session| self.has(session, name))
    }

    fn has(&self, session: &Session, program: &str) -> bool {
        let named = |text: &&'static str| Program::parse(text).name == program;
        session.must_fail.is_empty() && session.programs.iter().any(named)
    }
}

/// Decides. Each name is a session, which is run whole; or a program, in each session that has it;
/// or a word in the names of tests. `SESSION/NAME` means the session's alone. Where a session has a
/// program's name, the session is meant.
pub fn plan(
    sessions: &'static [Session],
    kernel: &str,
    wanted: &[String],
    tests_of: TestsOf,
) -> Result<Plan> {
    if wanted.is_empty() {
        return Ok(all(sessions, kernel));
    }
    let names = Names(sessions);
    let mut chosen: Vec<Chosen> = Vec::new();
    for text in wanted {
        let (only, name) = match text.split_once('/') {
            Some((session, name)) => (Some(session), name),
            None => (None, text.as_str()),
        };
        let mut found = false;
        let mut refused = None;
        for session in sessions {
            if only.is_some_and(|only| only != session.name) {
                continue;
            }
            let offer = match on_kernel(session, kernel) {
                Ok(offer) => offer,
                Err(why) => {
                    if name == session.name || only.is_some() || names.has(session, name) {
                        refused = Some(why);
                    }
                    continue;
                }
            };
            // One that is there to fail is run whole.
            if !session.must_fail.is_empty() && text != session.name {
                continue;
            }
            // Only its own name, or its place, leads to one that has to be named.
            if session.by_name.is_some() && only.is_none() && name != session.name {
                continue;
            }
            let programs = match meant(session, (only.is_some(), name), &offer, &names, tests_of) {
                Ok(programs) => programs,
                Err(why) => {
                    refused = Some(why);
                    continue;
                }
            };
            if programs.is_empty() {
                continue;
            }
            found = true;
            let less = offer
                .1
                .filter(|less| programs == offer.0 || concerns(less, &programs));
            add(&mut chosen, session, kernel, programs, less);
        }
        match (found, refused) {
            (true, _) => (),
            (false, Some(why)) => return Err(why),
            (false, None) => {
                bail!(
                "{text} is neither a session nor a program nor in the name of a test; sessions: {}",
                sessions.iter().map(|session| session.name).collect::<Vec<_>>().join(" ")
            )
            }
        }
    }
    let place = |one: &Chosen| {
        sessions
            .iter()
            .position(|session| session.name == one.session.name)
    };
    chosen.sort_by_key(place);
    Ok(Plan {
        chosen,
        left_out: Vec::new(),
    })
}

/// Whether what is left out is a part of one of these programs.
fn concerns(less: &str, programs: &[Program]) -> bool {
    programs
        .iter()
        .any(|program| Program::parse(less).name == program.name)
}

/// Adds programs of a session to what was chosen already.
fn add(
    chosen: &mut Vec<Chosen>,
    session: &'static Session,
    kernel: &str,
    programs: Vec<Program>,
    less: Option<String>,
) {
    let Some(there) = chosen
        .iter_mut()
        .find(|one| one.session.name == session.name)
    else {
        return chosen.push(Chosen {
            session,
            label: session.name.to_owned(),
            kernel: session.kernel.unwrap_or(kernel).to_owned(),
            programs,
            less,
        });
    };
    for program in programs {
        if !there.programs.contains(&program) {
            there.programs.push(program);
        }
    }
    there
        .programs
        .sort_by_key(|program| place(session, program));
    there.less = there.less.take().or(less);
}

/// Where a session has a program, or the first one of its name.
fn place(session: &Session, program: &Program) -> Option<usize> {
    let programs = session.programs;
    let whole = programs.iter().position(|&text| text == program.label());
    let named = |text: &&str| Program::parse(text).name == program.name;
    whole.or_else(|| programs.iter().position(named))
}

#[cfg(test)]
mod tests;
