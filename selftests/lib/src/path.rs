// SPDX-License-Identifier: GPL-2.0-only

//! What the way from a device to its root port carries: which ports forward the prefixes in which
//! extended tags travel, and which links are in flit mode. All of QEMU's ports forward prefixes,
//! and none knows flit mode: the test module `tph_rp` has them say something else.

use std::cell::RefCell;
use std::path::PathBuf;

use crate::endpoint::Endpoint;
use crate::module;
use crate::pci::{self, Bdf};
use crate::skip;

/// What a port says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// End-End TLP Prefix Supported.
    Prefixes(bool),
    /// The link below it is in flit mode.
    Flit(bool),
}

/// The ports above a device, which say again what they said before when this is dropped.
pub struct Path<'a> {
    endpoint: &'a Endpoint,
    /// From the root port down.
    pub ports: Vec<Bdf>,
    changed: RefCell<Vec<(&'static str, Bdf)>>,
}

fn file(name: &str) -> PathBuf {
    PathBuf::from("/sys/kernel/debug/tph_rp").join(name)
}

impl<'a> Path<'a> {
    /// The ports above an emulated endpoint. The test is left out if there is none.
    pub fn of(endpoint: &'a Endpoint) -> Self {
        let ports = endpoint.bdf.ports();
        if ports.is_empty() || !endpoint.is_emulated() {
            skip!("{} is below no port of a test VM", endpoint.bdf);
        }
        Self {
            endpoint,
            ports,
            changed: RefCell::new(Vec::new()),
        }
    }

    /// Has a port say something, which the kernel has not read yet.
    pub fn set(&self, port: &Bdf, says: Says) {
        module::ensure("tph_rp");
        let (name, value) = match says {
            Says::Prefixes(value) => ("prefixes", value),
            Says::Flit(value) => ("flit", value),
        };
        pci::write(&file(name), &format!("{port} {}", u8::from(value)))
            .unwrap_or_else(|error| panic!("{port}: {says:?}: {error}"));
        self.changed.borrow_mut().push((name, port.clone()));
    }

    /// Has the kernel find the ports and the device anew; no driver is bound then.
    pub fn find_anew(&self) {
        self.endpoint.bdf.unbind();
        self.ports[0].rediscover();
        assert!(
            self.endpoint.bdf.exists(),
            "{} is somewhere else",
            self.endpoint.bdf
        );
    }

    /// Ends what was said.
    pub fn reset(&self) {
        for (name, port) in self.changed.borrow_mut().drain(..) {
            // One that was set twice has ended already.
            let _ = pci::write(&file(name), &format!("{port} off"));
        }
    }
}

impl Drop for Path<'_> {
    fn drop(&mut self) {
        if !self.changed.borrow().is_empty() {
            self.reset();
            self.find_anew();
        }
    }
}
