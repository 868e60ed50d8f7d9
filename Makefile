# SPDX-License-Identifier: GPL-2.0-only
#
# Every entry point of the project; "make help" lists them. What is built for a
# test kernel is built in the build root, a Debian of its own in a cache outside
# the checkout (kernel/root): nothing has to be installed by hand.

# Said with ARCH=; kernel developers may have one in the environment.
KERNEL ?= $(if $(filter command line,$(origin ARCH)),$(patsubst x86%,lean,$(ARCH)),lean)
KDIR ?=
BDF ?=
DEVICES ?=
CLIENTS ?=
T ?=
TIME ?= 600
# Said with SEED=; others have one in the environment.
seed := $(if $(filter command line,$(origin SEED)),$(SEED))

# Said with AS=. To make itself, AS is an assembler, and so it may be in the environment.
name := $(if $(filter command line,$(origin AS)),$(AS),vfio_tph)
ifeq ($(filter vfio_tph vfio-pci,$(name)),)
$(error AS=$(name): the driver is vfio_tph, or vfio-pci in that one's place)
endif

.DEFAULT_GOAL := modules
.PHONY: help modules modules_install all kernel demo test test-all soak fuzz test-parity test-nested \
	test-clients test-guest qemu host-test check bench bench-plots pictures user user-test deb deb-test clean distclean

help: ## Show this list
	@echo 'make TARGET [KERNEL=lean|plain|bare|debug|kcsan|rt|newest|arm64|arm64-64k] [ARCH=arm64]' \
		'[KDIR=/path] [AS=vfio-pci] [T=NAME] [BDF=0000:01:00.0] [V=1]'
	@sed -n 's/^\([a-z_-]*\):.*## \(.*\)/  \1|\2/p' Makefile | column -t -s '|'

all: modules

modules: ## Build vfio_tph.ko (AS=vfio-pci: vfio-pci.ko) for a test kernel, or for the kernel in KDIR
ifeq ($(KDIR),)
	@kernel/module $(KERNEL) TPH_MODULE_NAME=$(name)
else
	@kernel/own "$(KDIR)" $(name)
endif

modules_install: ## Install it for the kernel in KDIR, where modprobe looks first
	@kernel/own "$(or $(KDIR),$(error modules_install needs KDIR=))" $(name) modules_install

kernel: ## Build a test kernel
	@kernel/kernel $(KERNEL)

demo: ## Steer DMA writes of an emulated endpoint to CPUs, in a virtual machine
	@selftests/demo

test: ## Run all tests, or T="NAME...": rules on the host, the module in VMs with KERNEL
	@selftests/test --kernel $(KERNEL) $(T)

test-all: ## What CI leaves out or takes a share of: hours, and four more kernels
	@selftests/test-all

# The sanitizer kernel unless another one is named.
soak: ## 1,000 life cycles and 10 minutes of everything at once [CYCLES=N] [SECONDS=N]
	@selftests/test --kernel $(if $(filter command line,$(origin KERNEL)),$(KERNEL),debug) \
		--ktap build/ktap-soak --soak-cycles $(or $(CYCLES),1000) --soak-seconds $(or $(SECONDS),600) soak

test-parity: ## Compare with vfio-pci: the kernel's selftests of vfio, random operations
	@selftests/parity $(DEVICES)

test-nested: ## Pass devices on to a guest in the virtual machine
	@selftests/test --ktap build/ktap-nested nested

test-clients: ## Run DPDK, QEMU, driverctl with this driver in vfio-pci's place [CLIENTS="testpmd nvme"]
	@selftests/clients $(CLIENTS)

# With QEMU=patched nothing in the guest is changed; QEMU is built first.
test-guest: ## Let a guest in the virtual machine steer with its own kernel [QEMU=patched] [T=guest/r97]
ifeq ($(QEMU),patched)
	@qemu=$$(vmm/qemu/build) && \
		selftests/test --ktap build/ktap-guest --nested-qemu "$$qemu" $(or $(T),guest)
else
	@selftests/test --ktap build/ktap-guest $(or $(T),guest)
endif

qemu: ## Build QEMU with our patch (10 minutes on 2 cores)
	@vmm/qemu/build

user: ## Build tphctl and the library
	@kernel/enter cargo build --manifest-path user/Cargo.toml --release --locked --target-dir build/user

user-test: ## Test tphctl and the library on made trees, without any device
	@kernel/enter cargo test --manifest-path user/Cargo.toml --quiet --locked --target-dir build/user

deb: ## Build Debian packages: the driver for DKMS, and tphctl
	@packaging/deb

deb-test: ## Install them, build the driver by DKMS and from headers alone, load it
	@packaging/test

host-test: ## Run the tests of the hardware-free rules only
	@kernel/enter make -C selftests host_test

fuzz: ## Fuzz the rules and the module, for TIME seconds each (600) [SEED=N]
	@selftests/fuzz-run --seconds $(TIME) $(if $(seed),--seed $(seed)) \
		$(if $(filter command line,$(origin KERNEL)),--kernel $(KERNEL))

check: ## Formatting, lints, documentation, licences; of another KERNEL what its compilers say
	@.ci/check $(KERNEL)

bench: ## Measure against the C path and vfio-pci; with BDF, times of a device of this machine
	@selftests/bench $(BDF)

bench-plots: ## The same, and draw the plots in Documentation/plots again
	@selftests/bench --plots

pictures: ## Draw the pictures of Documentation/ again
	@kernel/enter Documentation/pictures

clean: ## Remove what was built in the checkout
	@rm -rf build

distclean: clean ## Also remove the cache: build root and test kernels
	@. kernel/lib.sh && as_root rm -rf --one-file-system "$$cache"
