// SPDX-License-Identifier: GPL-2.0-only

//! TPH_ST and TPH_RESOLVE with anything in them, on any device: which check fails first, what a
//! source resolves to, which bytes of a table are written.

use super::{
    device,
    hints::{
        known,
        namespace, //
    },
};
use crate::{
    oracle::{
        answers::{
            self,
            errno,
            Known,
            Refused,
            Terms, //
        },
        model::{
            self,
            Device, //
        },
        offer, POLICIES,
    },
    rules::{
        batch::Batch,
        firmware::CpuTags,
        lookup::{
            Hint,
            Lookup, //
        },
        policy::Policy,
        published::Published,
        refusal::Refusal,
        regs::Control,
        source::{
            admit_cpu,
            Namespace,
            Source, //
        },
        writes::{
            Write,
            Writes, //
        },
    },
    uapi,
};
use arbitrary::Unstructured;

/// What there is to be found: an answer of firmware for each CPU, a word for each descriptor; and
/// whose the CPUs are.
struct World {
    cpus: Vec<u64>,
    words: Vec<u64>,
    /// A bit for each CPU that is the caller's.
    callers: u8,
}

impl World {
    fn draw(input: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let mut cpus = Vec::new();
        for _ in 0..input.int_in_range(0..=4)? {
            cpus.push(input.arbitrary()?);
        }
        let mut words = Vec::new();
        for _ in 0..input.int_in_range(0..=4)? {
            // What can be published: PH has two bits.
            words.push(input.arbitrary::<u64>()? & 0x0000_03ff_ff01_ff01);
        }
        let callers = input.arbitrary()?;
        Ok(Self {
            cpus,
            words,
            callers,
        })
    }

    /// Whether a CPU is the caller's; none if it is not there.
    fn owned(&self, cpu: u32) -> Option<bool> {
        let there = (cpu as usize) < self.cpus.len();
        there.then(|| self.callers & (1 << cpu) != 0)
    }

    /// As the driver finds a source.
    fn find(&self, policy: Policy, source: Source, namespace: Namespace) -> Result<Hint, Refusal> {
        match source {
            Source::Cpu { cpu, memory } => {
                let raw = self.cpus.get(cpu as usize).ok_or(Refusal::NoCpu)?;
                admit_cpu(policy, || self.owned(cpu).ok_or(Refusal::NoCpu))?;
                CpuTags::from_raw(*raw).hint(memory, namespace)
            }
            Source::DmaBuf { fd } => {
                let word = usize::try_from(fd)
                    .ok()
                    .and_then(|fd| self.words.get(fd))
                    .ok_or(Refusal::BadFd)?;
                let hint = Published::from_word(*word)
                    .hint(namespace)
                    .ok_or(Refusal::NoTag)?;
                Hint::from_exporter(hint.tag, hint.ph, namespace)
            }
            Source::None | Source::Literal { .. } => Err(Refusal::MalformedSource),
        }
    }

    /// As the model finds it.
    fn known(&self, source: &answers::Source, extended: bool) -> Result<Known, i32> {
        let index = source.value as usize;
        if source.kind == 1 {
            let raw = self.cpus.get(index).ok_or(errno::EINVAL)?;
            return answers::firmware(*raw, source.flags == 1, extended);
        }
        let word = self.words.get(index).ok_or(errno::EBADF)?;
        let bytes = word.to_le_bytes();
        answers::Hints {
            standard: (bytes[0] != 0).then_some(bytes[1]),
            extended: (bytes[2] != 0).then_some(u16::from_le_bytes([bytes[3], bytes[4]])),
            ph: bytes[5],
        }
        .get(extended)
    }
}

fn source(input: &mut Unstructured<'_>) -> arbitrary::Result<answers::Source> {
    let value = match input.int_in_range(0..=2)? {
        0 => 0,
        1 => input.int_in_range(0..=5)?,
        _ => input.arbitrary()?,
    };
    Ok(answers::Source {
        kind: input.int_in_range(0..=4)?,
        flags: input.int_in_range(0..=2)?,
        reserved: reserved(input)?,
        value,
    })
}

fn raw(source: &answers::Source) -> uapi::vfio_tph_source {
    uapi::vfio_tph_source {
        type_: source.kind,
        flags: source.flags,
        reserved: source.reserved,
        value: source.value,
    }
}

fn terms(device: &Device, policy: u32) -> Terms {
    Terms {
        usable: model::usable(device),
        policy,
        entries: model::entries(device, policy),
        extended: model::seen(device, policy) & model::EXTENDED != 0,
    }
}

fn refused(refusal: Refusal) -> Refused {
    Refused {
        errno: refusal.errno(),
        position: None,
    }
}

fn at(position: usize) -> impl Fn(Refusal) -> Refused {
    move |refusal| Refused {
        errno: refusal.errno(),
        position: Some(position),
    }
}

/// TPH_ST, in the order in which `feature.rs` asks the rules.
fn program(
    world: &World,
    device: &Device,
    policy: u32,
    control: Control,
    call: &answers::Program,
    sources: &[answers::Source],
) -> Result<Vec<u16>, Refused> {
    let offer = offer(device, policy);
    let offer = Batch::available(offer.as_ref()).map_err(refused)?;
    let header = uapi::vfio_device_feature_tph_st {
        flags: call.flags,
        index: call.index,
        count: call.count,
        reserved: call.reserved,
        ..Default::default()
    };
    let batch = Batch::shape(&header, offer, call.length).map_err(refused)?;
    batch.admit(control, offer).map_err(refused)?;

    let tag = |source: &answers::Source| match Source::decode(&raw(source), batch.namespace)?
        .admit(offer.policy)?
    {
        Source::None => Ok(0),
        Source::Literal { tag } => Ok(tag),
        source => world
            .find(offer.policy, source, batch.namespace)
            .map(|hint| hint.tag),
    };
    let sources = sources.iter().take(batch.count.into()).enumerate();
    sources
        .map(|(position, source)| tag(source).map_err(at(position)))
        .collect()
}

/// The writes of a batch put its tags where they belong, and nothing anywhere else.
fn check_writes(index: u16, tags: &[u16], entries: u16) {
    const UNTOUCHED: u8 = 0xa5;
    let mut bytes = vec![UNTOUCHED; 12 + 2 * usize::from(entries)];
    for (offset, write) in Writes::new(index, tags) {
        let at = usize::from(offset);
        match write {
            Write::Word(value) => bytes[at..at + 2].copy_from_slice(&value.to_le_bytes()),
            Write::Dword(value) => {
                assert_eq!(at % 4, 0, "a dword that is not aligned");
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
    }
    let start = 12 + 2 * usize::from(index);
    let end = start + 2 * tags.len();
    let written: Vec<u8> = tags.iter().flat_map(|tag| tag.to_le_bytes()).collect();
    assert_eq!(bytes[start..end], written);
    let around = bytes[..start].iter().chain(&bytes[end..]);
    assert!(around.copied().all(|byte| byte == UNTOUCHED));
}

/// A field that should be 0, and now and then is not.
fn reserved<'a, T: arbitrary::Arbitrary<'a> + Default>(
    input: &mut Unstructured<'a>,
) -> arbitrary::Result<T> {
    match input.ratio(1, 16)? {
        true => input.arbitrary(),
        false => Ok(T::default()),
    }
}

/// A length in bytes, `exact` or now and then another.
fn length(input: &mut Unstructured<'_>, exact: usize, most: usize) -> arbitrary::Result<usize> {
    match input.ratio(1, 8)? {
        true => input.int_in_range(0..=most),
        false => Ok(exact),
    }
}

fn check_program(
    input: &mut Unstructured<'_>,
    world: &World,
    device: &Device,
    policy: u32,
) -> arbitrary::Result<()> {
    let mut sources = Vec::new();
    for _ in 0..input.int_in_range(0..=12)? {
        sources.push(source(input)?);
    }
    let call = answers::Program {
        flags: input.int_in_range(0..=2)?,
        index: match input.arbitrary()? {
            true => input.int_in_range(0..=8)?,
            false => input.arbitrary()?,
        },
        // No more than there are: the kernel would have read them from the user.
        count: sources.len() as u16,
        reserved: reserved(input)?,
        length: length(input, 16 + 8 * sources.len(), 200)?,
    };
    // What hardware can hold, also what this device would never get to.
    let control = *input.choose(&[
        0x000, 0x001, 0x002, 0x100, 0x101, 0x102, 0x300, 0x301, 0x302,
    ])?;

    let expected = answers::program(
        &terms(device, policy),
        control,
        &call,
        &sources,
        &|cpu| world.owned(cpu),
        &|source, extended| world.known(source, extended),
    );
    let in_force = Control::from_raw(control).expect("legal");
    let found = program(world, device, policy, in_force, &call, &sources);
    assert_eq!(
        found, expected,
        "{call:?}, {sources:x?}, Control {control:#x}"
    );
    if let Ok(tags) = found {
        check_writes(call.index, &tags, model::entries(device, policy));
    }
    Ok(())
}

/// TPH_RESOLVE, in the order in which `feature.rs` asks the rules.
fn resolve(
    world: &World,
    device: &Device,
    policy: u32,
    call: &answers::Resolve,
    entries: &[answers::Entry],
) -> Result<Vec<answers::Entry>, Refused> {
    let offer = offer(device, policy).ok_or(refused(Refusal::Unsupported))?;
    let header = uapi::vfio_device_feature_tph_resolve {
        flags: call.flags,
        count: call.count,
        reserved: call.reserved,
        ..Default::default()
    };
    let lookup = Lookup::shape(&header, &offer, call.length).map_err(refused)?;
    assert_eq!(lookup.namespace, namespace(call.flags == 1));

    let answer = |entry: &answers::Entry| {
        let mut answered = uapi::vfio_tph_resolution {
            source: raw(&entry.source),
            st: entry.st,
            ph: entry.ph,
            flags: entry.flags,
            reserved: entry.reserved,
        };
        let source = lookup.source(&answered, POLICIES[policy as usize])?;
        let hint = world.find(offer.policy, source, lookup.namespace)?;
        assert!(known(hint).tag <= lookup.namespace.max_tag() as u16);
        hint.disclose(&mut answered, offer.policy);
        Ok(answers::Entry {
            source: entry.source,
            st: answered.st,
            ph: answered.ph,
            flags: answered.flags,
            reserved: answered.reserved,
        })
    };
    let entries = entries.iter().take(lookup.count as usize).enumerate();
    entries
        .map(|(position, entry)| answer(entry).map_err(at(position)))
        .collect()
}

fn check_resolve(
    input: &mut Unstructured<'_>,
    world: &World,
    device: &Device,
    policy: u32,
) -> arbitrary::Result<()> {
    let mut entries = Vec::new();
    for _ in 0..input.int_in_range(0..=12)? {
        entries.push(answers::Entry {
            source: source(input)?,
            st: input.arbitrary()?,
            ph: input.arbitrary()?,
            flags: input.int_in_range(0..=4)?,
            reserved: reserved(input)?,
        });
    }
    let call = answers::Resolve {
        flags: input.int_in_range(0..=2)?,
        count: entries.len() as u32,
        reserved: reserved(input)?,
        length: length(input, 16 + 16 * entries.len(), 300)?,
    };
    let expected = answers::resolve(
        &terms(device, policy),
        &call,
        &entries,
        &|source, extended| world.known(source, extended),
    );
    let found = resolve(world, device, policy, &call, &entries);
    assert_eq!(found, expected, "{call:?}, {entries:x?}");
    Ok(())
}

fn try_run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut device = device(input)?;
    let policy = input.int_in_range(0..=3)?;
    // The room of the capability is never 0 where its table is used, most of the time.
    device.room = device.room.max(input.int_in_range(0..=64)?);
    let world = World::draw(input)?;
    check_program(input, &world, &device, policy)?;
    check_resolve(input, &world, &device, policy)
}

/// Runs it.
pub fn run(data: &[u8]) {
    // Bytes that are too few mean nothing.
    let _ = try_run(&mut Unstructured::new(data));
}
