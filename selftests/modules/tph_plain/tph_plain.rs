// SPDX-License-Identifier: GPL-2.0-only

//! A variant driver that adds nothing to vfio-pci: that the abstractions in `rust/` carry another
//! one than vfio_tph, and both at once.

// Nothing in there is one driver's own; this one, which does nothing, uses the least of it.
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "a library in source form: each driver uses other parts of it"
)]
#[path = "../../../rust/mod.rs"]
mod rust;

use kernel::{
    device::Bound,
    pci::{
        self,
        Vendor, //
    },
    prelude::*, //
};
use rust::vfio::pci::{
    DeviceId,
    Driver,
    Hooks,
    IdTable,
    OpenState,
    Opening,
    Registration, //
};

module! {
    type: Module,
    name: "tph_plain",
    authors: ["vfio_tph maintainers"],
    description: "Test variant driver that is vfio-pci",
    license: "GPL",
    imports_ns: ["IOMMUFD", "DMA_BUF"],
}

kernel::module_device_table! {
    "pci", DeviceId, ENDPOINTS, @none,
    // The emulated endpoints.
    [DeviceId::from_id(Vendor::REDHAT, 0x7470)]
}

/// A bound device.
struct Plain;

impl OpenState for Plain {
    type Terms = ();
    type Session = ();
}

#[vtable]
impl Driver for Plain {
    type Shared = ();

    const NAME: &'static CStr = c"tph_plain";
    const ID_TABLE: IdTable = &ENDPOINTS;

    fn shared() -> impl PinInit<(), Error> {
        Ok(())
    }

    fn probe(_: &pci::Device<Bound>, (): &()) -> Result<Self> {
        Ok(Self)
    }

    fn open(&self, _: &mut Opening<'_>) -> Result<((), ())> {
        Ok(((), ()))
    }
}

impl Hooks for Plain {}

#[pin_data]
struct Module {
    #[pin]
    _registration: Registration<Plain>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _registration <- Registration::new(Plain::NAME, module),
        })
    }
}
