// SPDX-License-Identifier: GPL-2.0-only

//! A test importer of dma-bufs: attaches a PCI device, maps, asks for TPH hints as a driver in the
//! kernel would, and shows what it got. It never touches the memory.
//!
//! `/dev/tph_importer`; the requests are in [`abi`].

// Half of it is the tests'.
#[allow(dead_code, unreachable_pub)]
#[path = "abi.rs"]
mod abi;
#[path = "ask.rs"]
mod ask;
#[path = "rust.rs"]
mod rust;

use abi::{
    Answer,
    Answers,
    Attach,
    Question,
    Report, //
};
use kernel::{
    error::code::EINTR,
    fs::File,
    ioctl::_IO,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    new_condvar, new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        CondVar,
        Mutex, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use rust::{
    dma_buf::{
        attachment::{
            Attachment,
            Importer, //
        },
        DmaBuf,
        Reserved, //
    },
    pci, //
};

module! {
    type: Module,
    name: "tph_importer",
    authors: ["vfio_tph maintainers"],
    description: "Test importer of dma-bufs with TPH hints",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

#[pin_data]
struct Module {
    #[pin]
    _device: MiscDeviceRegistration<TestFile>,
}

impl kernel::InPlaceModule for Module {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"tph_importer",
            }),
        })
    }
}

/// An importer as the exporter sees it.
struct Observer {
    knows_tph: bool,
    report: Pin<KBox<Mutex<Report>>>,
}

impl Observer {
    /// Asks in both namespaces, if the importer knows that there is something to ask.
    fn ask(&self, reserved: &Reserved<'_>) -> Answers {
        self.knows_tph.then(|| {
            [false, true].map(|extended| match reserved.tph(extended) {
                Ok(tph) => Answer {
                    errno: 0,
                    steering_tag: tph.steering_tag,
                    ph: tph.ph,
                },
                Err(error) => Answer {
                    errno: error.to_errno().unsigned_abs(),
                    ..Answer::default()
                },
            })
        })
    }
}

impl Importer for Observer {
    fn invalidated(&self, reserved: &Reserved<'_>) {
        let answers = self.ask(reserved);
        let mut report = self.report.lock();
        report.invalidations = report.invalidations.saturating_add(1);
        report.when_invalidated = answers;
    }
}

/// What [`abi::HOLD`] is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Free,
    Held,
    Ending,
}

/// An importer's dma-buf and attachment. The attachment goes first.
struct Target {
    attachment: Option<Attachment<Observer>>,
    dma_buf: Option<ARef<DmaBuf>>,
}

/// An open file. Locks are taken in the order `target`, reservation, `hold` or the report.
#[pin_data]
struct TestFile {
    #[pin]
    target: Mutex<Target>,
    #[pin]
    hold: Mutex<Hold>,
    #[pin]
    hold_changed: CondVar,
}

#[vtable]
impl MiscDevice for TestFile {
    type Ptr = Pin<KBox<Self>>;

    fn open(_: &File, _: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        KBox::try_pin_init(
            try_pin_init!(Self {
                target <- new_mutex!(Target {
                    attachment: None,
                    dma_buf: None,
                }),
                hold <- new_mutex!(Hold::Free),
                hold_changed <- new_condvar!(),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(this: Pin<&Self>, _: &File, request: u32, argument: usize) -> Result<isize> {
        const fn number(command: u32) -> u32 {
            _IO(abi::TYPE, command)
        }
        const TAKE: u32 = number(abi::TAKE);
        const ATTACH: u32 = number(abi::ATTACH);
        const DETACH: u32 = number(abi::DETACH);
        const MAP: u32 = number(abi::MAP);
        const UNMAP: u32 = number(abi::UNMAP);
        const ASK: u32 = number(abi::ASK);
        const HOLD: u32 = number(abi::HOLD);
        const WAIT_HELD: u32 = number(abi::WAIT_HELD);
        const RELEASE: u32 = number(abi::RELEASE);
        const REPORT: u32 = number(abi::REPORT);

        match request {
            // CAST: a file descriptor; a bad one is found out.
            TAKE => this.take(argument as i32),
            // CAST: usize is not wider than u64.
            ATTACH => this.attach(Attach::from_argument(argument as u64)),
            DETACH => this.detach(),
            MAP => this.map(),
            UNMAP => this.unmap(),
            ASK => this.ask(UserPtr::from_addr(argument)),
            HOLD => this.hold(),
            WAIT_HELD => this.wait_held(),
            RELEASE => this.release(),
            REPORT => this.report(UserPtr::from_addr(argument)),
            _ => Err(ENOTTY),
        }?;
        Ok(0)
    }
}

impl TestFile {
    fn take(&self, fd: i32) -> Result {
        let dma_buf = DmaBuf::from_fd(fd)?;
        let mut target = self.target.lock();
        if target.dma_buf.is_some() {
            return Err(EBUSY);
        }
        target.dma_buf = Some(dma_buf);
        Ok(())
    }

    fn attach(&self, who: Attach) -> Result {
        let device = pci::find(who.domain, who.bus, who.devfn)?;
        let mut target = self.target.lock();
        if target.attachment.is_some() {
            return Err(EBUSY);
        }
        let dma_buf = target.dma_buf.clone().ok_or(ENXIO)?;
        let observer = Observer {
            knows_tph: who.knows_tph,
            report: KBox::pin_init(new_mutex!(Report::default()), GFP_KERNEL)?,
        };
        target.attachment = Some(Attachment::new(dma_buf, device, observer)?);
        Ok(())
    }

    fn detach(&self) -> Result {
        self.target.lock().attachment.take().map(drop).ok_or(ENXIO)
    }

    fn map(&self) -> Result {
        let target = self.target.lock();
        let (attachment, dma_buf) = target.attached()?;
        let reserved = dma_buf.lock_interruptible()?;
        attachment.map(&reserved)?;
        let importer = attachment.importer();
        let answers = importer.ask(&reserved);
        importer.report.lock().when_mapped = answers;
        Ok(())
    }

    fn unmap(&self) -> Result {
        let target = self.target.lock();
        let (attachment, dma_buf) = target.attached()?;
        let reserved = dma_buf.lock_interruptible()?;
        attachment.unmap(&reserved)
    }

    fn ask(&self, argument: UserPtr) -> Result {
        let size = Question::WORDS * size_of::<u32>();
        let (mut reader, mut writer) = UserSlice::new(argument, size).reader_writer();
        let question = Question::from_words(reader.read()?);
        let dma_buf = self.dma_buf()?;
        let answer = ask::ask(&dma_buf, question)?;
        writer.write(&answer.to_words())
    }

    fn hold(&self) -> Result {
        let dma_buf = self.dma_buf()?;
        let reserved = dma_buf.lock_interruptible()?;
        let mut hold = self.hold.lock();
        *hold = Hold::Held;
        self.hold_changed.notify_all();
        let mut interrupted = false;
        while *hold != Hold::Ending && !interrupted {
            interrupted = self.hold_changed.wait_interruptible(&mut hold);
        }
        *hold = Hold::Free;
        drop(hold);
        drop(reserved);
        if interrupted {
            return Err(EINTR);
        }
        Ok(())
    }

    fn wait_held(&self) -> Result {
        let mut hold = self.hold.lock();
        while *hold != Hold::Held {
            if self.hold_changed.wait_interruptible(&mut hold) {
                return Err(EINTR);
            }
        }
        Ok(())
    }

    fn release(&self) -> Result {
        let mut hold = self.hold.lock();
        if *hold != Hold::Held {
            return Err(ENXIO);
        }
        *hold = Hold::Ending;
        self.hold_changed.notify_all();
        Ok(())
    }

    fn report(&self, argument: UserPtr) -> Result {
        let report = self.target.lock().report()?;
        let words = report.to_words();
        UserSlice::new(argument, size_of_val(&words))
            .writer()
            .write(&words)
    }

    /// A reference of one's own, for what must not keep `target` locked.
    fn dma_buf(&self) -> Result<ARef<DmaBuf>> {
        self.target.lock().dma_buf.clone().ok_or(ENXIO)
    }
}

impl Target {
    fn attached(&self) -> Result<(&Attachment<Observer>, &DmaBuf)> {
        let attachment = self.attachment.as_ref().ok_or(ENXIO)?;
        let dma_buf = self.dma_buf.as_deref().ok_or(ENXIO)?;
        Ok((attachment, dma_buf))
    }

    fn report(&self) -> Result<Report> {
        let Ok((attachment, dma_buf)) = self.attached() else {
            return Ok(Report::default());
        };
        let mapped = attachment.is_mapped(&dma_buf.lock_interruptible()?)?;
        let report = *attachment.importer().report.lock();
        Ok(Report {
            attached: true,
            mapped,
            ..report
        })
    }
}
