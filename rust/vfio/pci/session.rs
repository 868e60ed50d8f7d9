// SPDX-License-Identifier: GPL-2.0-only

//! What a driver keeps of a device between open and close, and the locks that protect it.
//!
//! What it keeps is an [`OpenState`]: *terms*, which do not change, and a *session*, behind a
//! [`SessionLock`]. A callback of an open device gets a [`Handle`], and from that a lock:
//! [`Handle::lock_records`] to look at the session, [`Handle::lock_hardware`] to change the device
//! as well. Either is a [`SessionGuard`], which lends the session as [`Open`]. Whoever changes the
//! device for longer than a lock may be held has a [`Turn`]; others wait for its end.

use super::{
    msix::{
        Hold,
        Memory,
        MsixTable, //
    },
    vfio_pci_device::{
        AloneMemoryGuard,
        MemoryGuard,
        OpenDevice,
        VfioPciDevice,
        VirtualConfig,
        MAP_UNASSIGNED, //
    },
};
use core::{
    cell::UnsafeCell,
    ops::{
        Deref,
        DerefMut, //
    },
};
use kernel::{
    device::Bound,
    new_condvar, new_mutex, pci,
    prelude::*,
    sync::{
        CondVar,
        Mutex,
        MutexGuard, //
    },
};

/// What a driver keeps of a device from when it is opened until it is closed.
pub(crate) trait OpenState: Sized + 'static {
    /// What does not change meanwhile, and is read without a lock.
    type Terms: Send + Sync;

    /// What changes, behind a lock.
    type Session: Send + Unpin;
}

/// The memory of a device in a callback that is not its user's: before or after a reset, when it
/// was woken up, or when the kernel is about to end.
pub(crate) struct CallbackMemory<'a> {
    /// `None` while somebody else is about to change whether the device decodes it.
    memory: Option<Memory<'a>>,
}

impl<'a> CallbackMemory<'a> {
    /// # Safety
    ///
    /// If there is a `hold`, nobody else changes for `'a` whether the device decodes memory, its
    /// power state or its interrupt vectors; and it is what [`Memory::new`] has it to be.
    unsafe fn new(vdev: &'a OpenDevice, hold: Option<Hold>) -> Self {
        Self {
            memory: hold.map(|hold| {
                // SAFETY: Others are kept away as `Memory::new` wants it, by the safety
                // requirement.
                unsafe { Memory::new(vdev, hold) }
            }),
        }
    }

    /// The MSI-X table, as [`Memory::msix_table`] has it. `None` also if somebody else is about to
    /// change whether the device decodes it.
    pub(crate) fn msix_table(&mut self) -> Option<MsixTable<'_>> {
        self.memory.as_mut()?.msix_table()
    }
}

/// What a driver may edit while a device is being opened.
pub(crate) struct Opening<'a> {
    vdev: &'a OpenDevice,
    memory: Memory<'a>,
}

impl<'a> Opening<'a> {
    /// # Safety
    ///
    /// For `'a` no user can reach the device, and nobody resets it.
    pub(super) unsafe fn new(vdev: &'a OpenDevice) -> Self {
        Self {
            vdev,
            // SAFETY: No user can reach the device, and nobody resets it, by the safety
            // requirement: there is no need for the lock.
            memory: unsafe { Memory::new(vdev, Hold::Alone) },
        }
    }

    /// The PCI device.
    pub(crate) fn pci(&self) -> &'a pci::Device<Bound> {
        self.vdev.pci()
    }

    /// The device. It is borrowed from `self`: what vfio-pci-core does for it looks at the bytes
    /// that [`Self::config`] hands out.
    pub(crate) fn vdev(&self) -> &OpenDevice {
        self.vdev
    }

    /// The device, and its memory.
    pub(crate) fn split(&mut self) -> (&OpenDevice, &mut Memory<'a>) {
        (self.vdev, &mut self.memory)
    }

    /// vfio-pci-core's map of config space, and the virtual config space: one byte each for every
    /// byte. Zeroes the bytes of the latter that belong to no capability: vfio-pci-core has left
    /// them uninitialised. Meanwhile there is no way to the device.
    pub(crate) fn config(&mut self) -> (&mut [u8], &mut [u8]) {
        let raw = self.vdev.as_raw();
        // SAFETY: The device is open, so that both arrays exist, with `cfg_size` bytes each. The
        // user cannot reach them yet, and nothing else in vfio-pci-core does (runtime PM would,
        // and a reference keeps it away), nor does the driver, for whom the only way to an
        // `OpenDevice` is `self`: they are exclusively ours. vfio-pci-core fills the map,
        // and of the virtual space what belongs to a capability; the rest is zeroed here, and
        // never read by vfio-pci-core.
        unsafe {
            let len = (*(*raw).pdev).cfg_size as usize;
            for at in 0..len {
                if *(*raw).pci_config_map.add(at) == MAP_UNASSIGNED {
                    (*raw).vconfig.add(at).write(0);
                }
            }
            (
                core::slice::from_raw_parts_mut((*raw).pci_config_map, len),
                core::slice::from_raw_parts_mut((*raw).vconfig, len),
            )
        }
    }
}

/// The state of a device between open and close: terms without a lock, the rest behind one.
///
/// # Invariants
///
/// There are terms whenever there is a session in `locked`, and both whenever a [`Handle`] exists.
/// They are made by [`SessionLock::open`] and go with [`SessionLock::close`], which are called when
/// there is no handle.
#[pin_data]
pub(crate) struct SessionLock<T: OpenState> {
    terms: UnsafeCell<Option<T::Terms>>,
    #[pin]
    pub(super) locked: Mutex<Locked<T>>,
    /// A reset is over, or a change that only one user makes at a time.
    #[pin]
    pub(super) over: CondVar,
}

// SAFETY: By the invariant nobody reads the terms while they change, and by the bound of
// `OpenState::Terms` several threads may read them. The rest is a mutex and a condition variable.
unsafe impl<T: OpenState> Sync for SessionLock<T> {}

/// What one user at a time does to a device, while vfio-pci-core reads memory of theirs: they
/// decide how long it takes. So whoever waits for it can be interrupted, and no lock is held
/// meanwhile.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Change {
    /// Nobody does.
    None,
    /// A user allocates or frees interrupt vectors, or changes what can be reached of the device.
    Reach,
    /// A user changes the power state: the device may lose what it has.
    Power,
}

/// Whether a device is open.
pub(super) enum Life<S> {
    /// It is not.
    Closed,
    /// A user is about to have a session.
    Opening,
    /// It is, with this session.
    Open(S),
}

/// What a session's lock protects.
///
/// # Invariants
///
/// `life` is [`Life::Open`] only while the device is open: from after vfio_pci_core_enable() until
/// before vfio_pci_core_close_device().
pub(super) struct Locked<T: OpenState> {
    life: Life<T::Session>,
    /// How many keep the device open without being its user: one for each [`Visit`].
    visits: u32,
    /// Whether the device is about to be closed: there will be no new [`Visit`].
    closing: bool,
    change: Change,
    /// Whether a reset is under way: prepared, and not done. There is one at a time, under the
    /// device lock; a user's change may be under way as well.
    reset: bool,
}

impl<T: OpenState> Locked<T> {
    /// Whether hardware must be left alone: it may be about to lose its state.
    pub(super) fn is_in_transit(&self) -> bool {
        self.reset || self.change == Change::Power
    }

    fn session(&mut self) -> Option<&mut T::Session> {
        match &mut self.life {
            Life::Open(session) => Some(session),
            Life::Closed | Life::Opening => None,
        }
    }

    /// Drops what there was of a session. Not inlined: that is long.
    #[inline(never)]
    fn set_life(&mut self, life: Life<T::Session>) {
        self.life = life;
    }

    /// Whether the device is open.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.life, Life::Open(_))
    }

    /// A reset is prepared, or done.
    pub(super) fn set_reset(&mut self, under_way: bool) {
        self.reset = under_way;
    }
}

impl<T: OpenState> SessionLock<T> {
    pub(super) fn new() -> impl PinInit<Self> {
        // INVARIANT: There is no session, and no handle.
        pin_init!(Self {
            terms: UnsafeCell::new(None),
            locked <- new_mutex!(Locked {
                life: Life::Closed,
                visits: 0,
                closing: false,
                change: Change::None,
                reset: false,
            }),
            over <- new_condvar!(),
        })
    }

    /// Once for all: inlined it is long.
    #[inline(never)]
    fn lock(&self) -> MutexGuard<'_, Locked<T>> {
        self.locked.lock()
    }

    /// A user is about to have a session.
    pub(super) fn opening(&self) {
        self.lock().set_life(Life::Opening);
    }

    /// The open has failed: the user gets no session.
    pub(super) fn not_opened(&self) {
        self.lock().set_life(Life::Closed);
    }

    /// Locks the session once no reset is under way: none must come between the driver's looks at
    /// a device that is being opened and its session.
    pub(super) fn lock_after_reset(&self) -> MutexGuard<'_, Locked<T>> {
        let mut guard = self.lock();
        while guard.reset {
            self.over.wait(&mut guard);
        }
        guard
    }

    /// The device is open from now on.
    ///
    /// # Safety
    ///
    /// vfio-pci-core has enabled the device; there is no session, as `guard` shows, and no
    /// [`Handle`].
    pub(super) unsafe fn open(
        &self,
        guard: &mut MutexGuard<'_, Locked<T>>,
        (terms, session): (T::Terms, T::Session),
    ) {
        // SAFETY: Nobody else reads or writes the terms, by the safety requirement. INVARIANT: The
        // session comes next.
        unsafe { *self.terms.get() = Some(terms) };
        // INVARIANT: vfio-pci-core has enabled the device, by the safety requirement.
        guard.set_life(Life::Open(session));
    }

    /// The device will be closed: nobody visits it from now on.
    pub(super) fn end_visits(&self) {
        let mut guard = self.lock();
        guard.closing = true;
        while guard.visits != 0 {
            self.over.wait(&mut guard);
        }
    }

    /// The device is about to be closed: `f` is the last that is done to it.
    ///
    /// # Safety
    ///
    /// There is no [`Handle`], [`Self::end_visits`] was called, and no other call of this or of
    /// [`Self::open`] is under way.
    pub(super) unsafe fn close(&self, vdev: &VfioPciDevice, f: impl FnOnce(&mut Open<'_, T>)) {
        let mut guard = self.lock();
        self.locked_with_open(&mut guard, vdev, f);
        // INVARIANT: vfio-pci-core is about to free what belongs to the open device.
        let life = core::mem::replace(&mut guard.life, Life::Closed);
        guard.closing = false;
        drop(guard);
        // SAFETY: There is no session any more, nor a handle: nobody reads the terms.
        let terms = unsafe { (*self.terms.get()).take() };
        drop((life, terms));
    }

    /// The terms.
    ///
    /// # Safety
    ///
    /// For `'a` there is a session, or a [`Handle`].
    #[inline(always)]
    unsafe fn terms<'a>(&self) -> &'a T::Terms {
        // SAFETY: There are terms, by the safety requirement and the type's invariant, and they do
        // not change for `'a`.
        unsafe { (*self.terms.get()).as_ref().unwrap_unchecked() }
    }

    /// Waits until hardware need not be left alone. ERESTARTSYS if a signal comes while another
    /// user changes the power state, which may take them as long as they like; a reset ends by
    /// itself.
    fn wait_for_transit(&self, guard: &mut MutexGuard<'_, Locked<T>>) -> Result {
        while guard.is_in_transit() {
            if guard.reset {
                self.over.wait(guard);
            } else if self.over.wait_interruptible(guard) {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn set_change(&self, change: Change) {
        self.lock().change = change;
        self.over.notify_all();
    }

    /// Runs `f` on the device if it is open, with the session locked.
    pub(super) fn with_open(&self, vdev: &VfioPciDevice, f: impl FnOnce(&mut Open<'_, T>)) {
        let mut guard = self.lock();
        self.locked_with_open(&mut guard, vdev, f);
    }

    /// As [`Self::with_open`], with the session locked by `guard`.
    pub(super) fn locked_with_open(
        &self,
        guard: &mut MutexGuard<'_, Locked<T>>,
        vdev: &VfioPciDevice,
        f: impl FnOnce(&mut Open<'_, T>),
    ) {
        if let Some(session) = guard.session() {
            // SAFETY: While there is a session, which is locked, the device is open, and there are
            // terms.
            let (vdev, terms) = unsafe { (vdev.as_open(), self.terms()) };
            f(&mut Open {
                session,
                terms,
                vdev,
            });
        }
    }

    /// As [`Self::locked_with_open`], in a callback that may find the device in any state, with its
    /// memory.
    ///
    /// # Safety
    ///
    /// As for [`CallbackMemory::new`], while this runs.
    pub(super) unsafe fn locked_with_memory(
        &self,
        guard: &mut MutexGuard<'_, Locked<T>>,
        vdev: &VfioPciDevice,
        stable: bool,
        f: impl FnOnce(&mut Open<'_, T>, &mut CallbackMemory<'_>),
    ) {
        self.locked_with_open(guard, vdev, |open| {
            // SAFETY: As `CallbackMemory::new` wants it, by the safety requirement.
            let mut memory =
                unsafe { CallbackMemory::new(open.vdev, stable.then_some(Hold::Reset)) };
            f(open, &mut memory);
        });
    }
}

impl<T: OpenState> SessionLock<T> {
    /// As [`Self::locked_with_open`], where the device was woken up, with its memory. While a reset
    /// or a change of the power state is under way it is left alone, without calling `f`: what is
    /// done at the end of either makes up for it.
    pub(super) fn woken_up(
        &self,
        vdev: &VfioPciDevice,
        f: impl FnOnce(&mut Open<'_, T>, &mut CallbackMemory<'_>),
    ) {
        // vfio-pci-core takes `memory_lock` for writing in its own callback of runtime PM, and
        // under the lock of a device set: nobody who holds it waits for us.
        let _memory = vdev.memory_lock();
        let mut guard = self.lock();
        if guard.is_in_transit() {
            return;
        }
        self.locked_with_open(&mut guard, vdev, |open| {
            // SAFETY: As for `SessionGuard::open_with_memory`: both locks are held, and nothing is
            // under way.
            let mut memory = unsafe { CallbackMemory::new(open.vdev, Some(Hold::Shared)) };
            f(open, &mut memory);
        });
    }
}

/// A device that is bound, open or not.
pub(crate) struct MaybeOpen<'a, T: OpenState> {
    pub(super) vdev: &'a VfioPciDevice,
    pub(super) session: &'a SessionLock<T>,
}

impl<'a, T: OpenState> MaybeOpen<'a, T> {
    /// Runs `f` if the device is not open, and keeps it so meanwhile. EBUSY if it is.
    pub(crate) fn unless_open(&self, f: impl FnOnce()) -> Result {
        let guard = self.session.lock();
        if !matches!(guard.life, Life::Closed) {
            return Err(EBUSY);
        }
        f();
        Ok(())
    }

    /// Keeps the device open, for what is done to it on behalf of somebody else than its user.
    /// `None` if it is not open, or will be closed.
    pub(crate) fn visit(&self) -> Option<Visit<'a, T>> {
        let mut guard = self.session.lock();
        if guard.closing || !guard.is_open() {
            return None;
        }
        guard.visits += 1;
        // INVARIANT: Whoever closes the device waits for us, from `SessionLock::end_visits` on, and
        // has not got there.
        Some(Visit {
            // SAFETY: There is a session: vfio-pci-core has enabled the device, and does not
            // disable it before it is closed.
            handle: unsafe { Handle::new(self.vdev.as_open(), self.session) },
        })
    }
}

/// Proof that a device stays open, for somebody who is not its user.
///
/// # Invariants
///
/// It is one of the session's `visits`.
pub(crate) struct Visit<'a, T: OpenState> {
    handle: Handle<'a, T>,
}

impl<T: OpenState> Visit<'_, T> {
    /// The device, as a callback of its user gets it.
    pub(crate) fn handle(&self) -> Handle<'_, T> {
        self.handle
    }
}

impl<T: OpenState> Drop for Visit<'_, T> {
    fn drop(&mut self) {
        let session = self.handle.session;
        session.lock().visits -= 1;
        session.over.notify_all();
    }
}

/// An open device as a callback gets it: vfio-pci-core's part, and the way to the session that
/// belongs to it.
///
/// # Invariants
///
/// For `'a` the device is open: [`SessionLock::open`] was called, and [`SessionLock::close`] is
/// not.
pub(crate) struct Handle<'a, T: OpenState> {
    vdev: &'a OpenDevice,
    session: &'a SessionLock<T>,
}

impl<T: OpenState> Clone for Handle<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: OpenState> Copy for Handle<'_, T> {}

impl<'a, T: OpenState> Handle<'a, T> {
    /// # Safety
    ///
    /// For `'a` the device is open: [`SessionLock::open`] was called, and [`SessionLock::close`] is
    /// not.
    #[inline]
    pub(super) unsafe fn new(vdev: &'a OpenDevice, session: &'a SessionLock<T>) -> Self {
        // INVARIANT: By the safety requirement.
        Self { vdev, session }
    }

    /// What does not change while the device is open.
    #[inline(always)]
    pub(crate) fn terms(&self) -> &'a T::Terms {
        // SAFETY: Handles exist for `'a`, by the type's invariant.
        unsafe { self.session.terms() }
    }

    /// vfio-pci-core's part of the device.
    #[inline]
    pub(crate) fn vdev(&self) -> &'a OpenDevice {
        self.vdev
    }

    /// Locks the session, whatever goes on: what is recorded of hardware can be looked at and
    /// changed.
    pub(crate) fn lock_records(&self) -> SessionGuard<'a, T> {
        self.guard(self.session.lock(), ())
    }

    /// Locks the session, and `memory_lock`, with no reset or change of power under way: hardware
    /// can be changed. `alone` says of the session whether the device may have to decode what its
    /// user does not have it decode; `memory_lock` is held for writing then, else for reading.
    ///
    /// ERESTARTSYS if a signal comes before another user has changed the power state. The device is
    /// awake.
    pub(crate) fn lock_hardware(
        &self,
        alone: &dyn Fn(&T::Session) -> bool,
    ) -> Result<SessionGuard<'a, T, MemoryLock<'a>>> {
        let alone = |locked: &mut Locked<T>| locked.session().is_some_and(|session| alone(session));
        loop {
            // Not under memory_lock, which page faults take: a reset may last.
            let mut guard = self.session.lock();
            self.session.wait_for_transit(&mut guard)?;
            let wanted = alone(&mut guard);
            drop(guard);

            let lock = match wanted {
                true => MemoryLock::Alone(self.vdev.memory_lock_alone()),
                false => MemoryLock::Shared(self.vdev.memory_lock()),
            };
            let mut guard = self.session.lock();
            if !guard.is_in_transit() && (wanted || !alone(&mut guard)) {
                return Ok(self.guard(guard, lock));
            }
        }
    }

    fn guard<M>(&self, guard: MutexGuard<'a, Locked<T>>, memory: M) -> SessionGuard<'a, T, M> {
        SessionGuard {
            guard,
            memory,
            handle: *self,
        }
    }
}

/// A user's turn to change interrupt vectors, whether memory is decoded, or the power state: nobody
/// else does meanwhile, and [`Handle::lock_hardware`] does not fail.
///
/// # Invariants
///
/// The session's `change` is not [`Change::None`], and becomes that only when this is dropped.
#[must_use = "others go on when it is dropped"]
pub(crate) struct Turn<'a, T: OpenState> {
    session: &'a SessionLock<T>,
}

impl<'a, T: OpenState> Turn<'a, T> {
    /// Waits for others. ERESTARTSYS if a signal comes first.
    pub(crate) fn begin(handle: Handle<'a, T>) -> Result<Self> {
        let session = handle.session;
        let mut guard = session.lock();
        while guard.change != Change::None {
            if session.over.wait_interruptible(&mut guard) {
                return Err(ERESTARTSYS);
            }
        }
        // INVARIANT: Nobody else sets it until it is `None` again.
        guard.change = Change::Reach;
        Ok(Self { session })
    }
}

impl<T: OpenState> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.session.set_change(Change::None);
    }
}

/// A user's change of the power state, while nobody else changes it or interrupt vectors.
#[must_use = "others go on when it is dropped"]
pub(crate) struct PowerChange<'a, T: OpenState>(Turn<'a, T>);

impl<'a, T: OpenState> PowerChange<'a, T> {
    /// Waits for others, and calls `before`. From then on, up to [`Self::finish`],
    /// [`Handle::lock_hardware`] waits, and so does whoever changes hardware: what `before` did
    /// stays so. ERESTARTSYS if a signal comes first.
    ///
    /// The device is awake.
    pub(crate) fn begin(
        handle: Handle<'a, T>,
        before: impl FnOnce(&mut Open<'_, T>),
    ) -> Result<Self> {
        let turn = Turn::begin(handle)?;
        let _memory = handle.vdev.memory_lock();
        let mut guard = handle.session.lock();
        guard.change = Change::Power;
        handle
            .session
            .locked_with_open(&mut guard, handle.vdev, before);
        Ok(Self(turn))
    }

    /// The power state has been changed, or not: hardware is not left alone any more. Other users
    /// who change the same wait until this is dropped.
    pub(crate) fn finish(&self) {
        self.0.session.set_change(Change::Reach);
    }
}

/// A locked session, and what else is held for it: nothing, or `memory_lock`.
pub(crate) struct SessionGuard<'a, T: OpenState, M = ()> {
    // Dropped in this order: the reverse of how they are taken.
    guard: MutexGuard<'a, Locked<T>>,
    memory: M,
    handle: Handle<'a, T>,
}

impl<T: OpenState, M> SessionGuard<'_, T, M> {
    /// The session.
    pub(crate) fn open(&mut self) -> Open<'_, T> {
        // SAFETY: There is a session while a handle exists, by the invariant of `SessionLock`.
        let session = unsafe { self.guard.session().unwrap_unchecked() };
        Open {
            session,
            terms: self.handle.terms(),
            vdev: self.handle.vdev,
        }
    }
}

impl<T: OpenState> SessionGuard<'_, T, MemoryLock<'_>> {
    /// The session, and the memory of its device. Memory that is switched on for the moment is
    /// switched off before the session is unlocked: a reset neither saves nor finds it switched on.
    pub(crate) fn open_with_memory(&mut self) -> (Open<'_, T>, Memory<'_>) {
        let vdev = self.handle.vdev;
        let hold = match self.memory {
            MemoryLock::Shared(_) => Hold::Shared,
            MemoryLock::Alone(_) => Hold::Alone,
        };
        // SAFETY: `memory_lock` and the session's lock are held as long as the guard exists, which
        // is borrowed. vfio-pci-core, whose vectors these are, changes the power state, what is
        // decoded and the vectors with the first held for writing. Whoever resets the device in
        // another way takes the second before, and says there that a reset is under way.
        let memory = unsafe { Memory::new(vdev, hold) };
        (self.open(), memory)
    }
}

/// `memory_lock` of a device, held.
#[expect(dead_code, reason = "what is in here is held, not looked at")]
pub(crate) enum MemoryLock<'a> {
    /// For reading.
    Shared(MemoryGuard<'a>),
    /// For writing.
    Alone(AloneMemoryGuard<'a>),
}

/// An open device, with its session locked.
pub(crate) struct Open<'a, T: OpenState> {
    session: &'a mut T::Session,
    terms: &'a T::Terms,
    vdev: &'a OpenDevice,
}

impl<'a, T: OpenState> Open<'a, T> {
    /// The device.
    pub(crate) fn vdev(&self) -> &'a OpenDevice {
        self.vdev
    }

    /// What does not change while the device is open.
    pub(crate) fn terms(&self) -> &'a T::Terms {
        self.terms
    }

    /// The session, and the config space that the user sees.
    pub(crate) fn split(&mut self) -> (&mut T::Session, VirtualConfig<'_>) {
        (self.session, VirtualConfig::new(self.vdev))
    }

    /// The config space that the user sees.
    pub(crate) fn virtual_config(&mut self) -> VirtualConfig<'_> {
        self.split().1
    }
}

impl<T: OpenState> Deref for Open<'_, T> {
    type Target = T::Session;

    fn deref(&self) -> &T::Session {
        self.session
    }
}

impl<T: OpenState> DerefMut for Open<'_, T> {
    fn deref_mut(&mut self) -> &mut T::Session {
        self.session
    }
}
