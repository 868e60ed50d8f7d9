// SPDX-License-Identifier: GPL-2.0-only

//! Which descriptors the features can be had by: that of who has opened the device, as with any
//! other feature of vfio-pci, and no other.

use std::env;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::cmsg_space;
use nix::fcntl::{fcntl, FcntlArg};
use nix::sys::socket::{recvmsg, sendmsg, ControlMessage, ControlMessageOwned, MsgFlags};
use tph_selftests::bench::{Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::module::{Gate, VFIO_TPH};
use tph_selftests::process::{arguments, Process};
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{self, cpu, feature_of, Device, Op, OpenBy, ResolveRequest, StRequest};
use tph_selftests::{tests, Errno};
use tph_tests::{fill, st, CPU};
use vfio_bindings::bindings::vfio::VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;

const WAYS: [OpenBy; 2] = [OpenBy::Cdev, OpenBy::Group];
const GUESS: &str = "--guess";
const HEIR: &str = "--inherit";

/// What calls of every feature come to on a descriptor, whatever it is.
fn calls(fd: RawFd) -> Vec<Result<(), Errno>> {
    let st = StRequest::new(0, &[cpu(CPU)]).bytes();
    let resolve = ResolveRequest::new(&[cpu(CPU)]).bytes();
    [
        feature_of(fd, Op::Probe, VFIO_DEVICE_FEATURE_TPH, &[]),
        feature_of(fd, Op::Get, VFIO_DEVICE_FEATURE_TPH, &[0; 8]),
        feature_of(fd, Op::Probe, VFIO_DEVICE_FEATURE_TPH_ST, &[]),
        feature_of(fd, Op::Set, VFIO_DEVICE_FEATURE_TPH_ST, &st),
        feature_of(fd, Op::Probe, VFIO_DEVICE_FEATURE_TPH_RESOLVE, &[]),
        feature_of(fd, Op::Get, VFIO_DEVICE_FEATURE_TPH_RESOLVE, &resolve),
    ]
    .into()
}

/// The same of a feature that stock vfio-pci has.
fn stock_call(fd: RawFd) -> Result<(), Errno> {
    feature_of(fd, Op::Probe, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, &[])
}

/// Every feature answers with what a feature of stock vfio-pci answers there: `errno`.
#[track_caller]
fn assert_all(what: &str, fd: RawFd, errno: Errno) {
    assert_eq!(stock_call(fd), Err(errno), "{what}: a feature of vfio-pci");
    for (number, result) in calls(fd).into_iter().enumerate() {
        assert_eq!(result, Err(errno), "{what}: call {number}");
    }
}

#[track_caller]
fn assert_works(what: &str, fd: RawFd) {
    assert_eq!(stock_call(fd), Ok(()), "{what}: a feature of vfio-pci");
    for (number, result) in calls(fd).into_iter().enumerate() {
        assert_eq!(result, Ok(()), "{what}: call {number}");
    }
}

/// Calls `body` with a device opened in each way, by the driver that has the features: by policy
/// `literal`, so that all of them work.
fn each_way(bench: &mut Bench, body: impl Fn(&Endpoint, Device, &str)) {
    bench.each(WAYS, |bench, by| {
        let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
        let device = endpoint.open_by(by);
        device.enable(StMode::InterruptVector, Requester::Standard);
        fill(&endpoint, &device);
        assert_works(&format!("{by:?}"), device.fd());
        body(&endpoint, device, &format!("{by:?}"));
    });
}

/// Another process does not get at a device by guessing what its descriptor is.
fn r23_descriptor_of_another_process(bench: &mut Bench) {
    each_way(bench, |endpoint, device, way| {
        let before = endpoint.entries();
        Process::again(GUESS, [&device.fd().to_string()[..]]).wait();
        assert_eq!(endpoint.entries(), before, "{way}");
        assert_works(way, device.fd());
    });
}

/// What the other process does, if this is it.
fn guess() -> Option<ExitCode> {
    let guessed: RawFd = arguments(GUESS)?.next()?.parse().ok()?;
    // And all others that it could be.
    for fd in [guessed].into_iter().chain(3..64) {
        assert_all(&format!("descriptor {fd}"), fd, Errno::EBADF);
    }
    Some(ExitCode::SUCCESS)
}

fn r23_closed(bench: &mut Bench) {
    each_way(bench, |endpoint, device, way| {
        let fd = device.fd();
        drop(device);
        assert_all(way, fd, Errno::EBADF);
        endpoint.assert_off(&format!("{way}: close"));
    });
}

/// A duplicate is the same opener's: the device is closed with the last one.
fn r23_duplicate(bench: &mut Bench) {
    each_way(bench, |endpoint, device, way| {
        let copy = fcntl(device_file(&device), FcntlArg::F_DUPFD_CLOEXEC(0)).expect("F_DUPFD");
        // SAFETY: the kernel has just made this descriptor, for us alone.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        let fd = device.fd();
        // Closes the descriptors of group, container and iommufd, too.
        drop(device);
        assert_all(way, fd, Errno::EBADF);
        assert_works(&format!("{way}: the duplicate"), copy.as_raw_fd());
        drop(copy);
        endpoint.assert_off(&format!("{way}: close of the last"));
    });
}

/// A device that another process is handed over a socket, and that stays open over exec there, is
/// that process's as it was its opener's: until it has gone, whoever opened the device.
fn r23_handed_over_a_socket_and_kept_over_exec(bench: &mut Bench) {
    each_way(bench, |endpoint, device, way| {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut heir = Command::new(env::current_exe().expect("the path of this program"))
            .arg(HEIR)
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .expect("another process");
        // Before the other process has it: it writes what is read below.
        fill(endpoint, &device);
        let fds = [device.fd()];
        sendmsg::<()>(
            ours.as_raw_fd(),
            &[IoSlice::new(b"device")],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::empty(),
            None,
        )
        .expect("SCM_RIGHTS");
        drop(device);
        // It has it, and then it has it as another program.
        for what in ["received", "kept over exec"] {
            let mut line = [0; 4];
            (&ours).read_exact(&mut line).expect("a word");
            assert_eq!(&line, b"mine", "{way}: {what}");
            assert_eq!(endpoint.entries()[0], st(CPU), "{way}: {what}");
            (&ours).write_all(b"go").expect("the other process");
        }
        let status = heir.wait().expect("the other process");
        assert!(status.success(), "{way}: {status}");
        endpoint.assert_off(&format!("{way}: the end of the other process"));
    });
}

/// What the other process does, if this is it: its standard input is the socket.
fn inherit() -> Option<ExitCode> {
    let mut arguments = arguments(HEIR)?;
    // SAFETY: standard input is nobody else's here.
    let socket = unsafe { UnixStream::from_raw_fd(0) };
    let kept: Option<RawFd> = arguments.next().and_then(|fd| fd.parse().ok());
    let fd = kept.unwrap_or_else(|| {
        let mut bytes = [0; 6];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let mut space = cmsg_space!(RawFd);
        let message = recvmsg::<()>(0, &mut parts, Some(&mut space), MsgFlags::empty());
        let message = message.expect("a message");
        let received = message.cmsgs().expect("control messages").next();
        match received {
            Some(ControlMessageOwned::ScmRights(fds)) => fds[0],
            other => panic!("no descriptor: {other:?}"),
        }
    });
    assert_works("another process", fd);
    let mut word = [0; 2];
    (&socket).write_all(b"mine").expect("the opener");
    (&socket).read_exact(&mut word).expect("the opener");
    if kept.is_some() {
        return Some(ExitCode::SUCCESS);
    }
    // Received without close-on-exec, as is standard input.
    let error = Command::new(env::current_exe().expect("the path of this program"))
        .args([HEIR, &fd.to_string()])
        .exec();
    panic!("exec: {error}");
}

fn device_file(device: &Device) -> std::os::fd::BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as the device.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(device.fd()) }
}

/// The character device before it is bound to an iommufd, with nobody else there and with the
/// device in use by somebody else.
fn r23_not_bound_to_an_iommufd(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    let unbound = vfio::open_cdev_unbound(&endpoint.bdf).expect("open");
    assert_all("alone", unbound.as_raw_fd(), Errno::EINVAL);
    let device = endpoint.open_by(OpenBy::Cdev);
    device.enable(StMode::InterruptVector, Requester::Standard);
    let before = fill(&endpoint, &device);
    assert_all("beside a user", unbound.as_raw_fd(), Errno::EINVAL);
    assert_eq!(endpoint.entries(), before);
    assert_works("the user", device.fd());
}

/// No descriptor outlives its device: unbind waits for the last one, which works until then.
fn r23_unbind_while_open(bench: &mut Bench) {
    each_way(bench, |endpoint, device, way| {
        let fd = device.fd();
        let unbind = device.begin_unbind();
        assert_works(&format!("{way}: unbind waits"), fd);
        assert!(!unbind.is_finished(), "{way}");
        drop(device);
        unbind.join().expect("unbind");
        assert_all(&format!("{way}: unbound"), fd, Errno::EBADF);
        assert_eq!(endpoint.bdf.vfio_cdev(), None, "{way}");
        endpoint.assert_off(&format!("{way}: unbind"));
    });
}

/// Descriptors that are no device's: of the group, of the container, of an iommufd, of the other
/// driver's device, of a file.
fn r23_other_files(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    let group = format!("/dev/vfio/{}", endpoint.bdf.iommu_group().expect("a group"));
    for path in [&group[..], "/dev/vfio/vfio", "/dev/iommu", "/proc/self/exe"] {
        let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let expected = stock_call(file.as_raw_fd()).expect_err(path);
        for (number, result) in calls(file.as_raw_fd()).into_iter().enumerate() {
            assert_eq!(result, Err(expected), "{path}: call {number}");
        }
    }
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    let device = endpoint.open();
    for (number, result) in calls(device.fd()).into_iter().enumerate() {
        assert_eq!(result, Err(Errno::ENOTTY), "vfio-pci: call {number}");
    }
    drop(device);
    endpoint.bdf.bind(VFIO_TPH).expect("vfio_tph");
}

fn main() -> ExitCode {
    if let Some(code) = guess().or_else(inherit) {
        return code;
    }
    harness::run(tests![
        r23_descriptor_of_another_process,
        r23_closed,
        r23_duplicate,
        r23_handed_over_a_socket_and_kept_over_exec,
        r23_not_bound_to_an_iommufd,
        r23_unbind_while_open,
        r23_other_files,
    ])
}
