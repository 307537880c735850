//! The operations that are killed and stopped at every instruction, and what each needs before.
//!
//! An operation is done by a forked child, the *operator*, in a heap that its parent, the
//! *bystander*, has made: see [`Site`]. `prepare` is done at full speed,
//! `operate` under the trap; neither panics, and what is refused is an error of the torture.

use std::mem::{ManuallyDrop, forget};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, anyhow};
use shmheap::{Heap, Policy, Unpublished};

use crate::bytes;
use crate::dying;
use crate::random::Random;
use crate::site::{LARGE_BYTES, Site};

/// More frees than a thread puts off looking at under the scalable policy; and enough under first
/// fit, where each has as many images as any other.
const MANY: [usize; 2] = [300, 10];

/// What may be found when the operator was killed in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The heap as before the operation or as after it.
    One,
    /// Or with both the old and the new object.
    OneOrBoth,
    /// Any of the objects that the operation frees.
    Each,
}

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Alloc,
    AllocLarge,
    AllocAligned,
    FreeOwn,
    FreeForeign,
    FreeMany,
    FreeLarge,
    Resize,
    ResizeLarge,
    Move,
    AllocUnpublished,
    Publish,
    AllocInto,
    Take,
    TakeToFree,
    Keep,
    Grow,
    Trim,
    Join,
    Connect,
    Disconnect,
    Adopt,
    AllocOverDead,
}

impl Op {
    pub(crate) const ALL: [Self; 23] = [
        Self::Alloc,
        Self::AllocLarge,
        Self::AllocAligned,
        Self::FreeOwn,
        Self::FreeForeign,
        Self::FreeMany,
        Self::FreeLarge,
        Self::Resize,
        Self::ResizeLarge,
        Self::Move,
        Self::AllocUnpublished,
        Self::Publish,
        Self::AllocInto,
        Self::Take,
        Self::TakeToFree,
        Self::Keep,
        Self::Grow,
        Self::Trim,
        Self::Join,
        Self::Connect,
        Self::Disconnect,
        Self::Adopt,
        Self::AllocOverDead,
    ];

    /// What may be found when it was cut.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Move | Self::Resize | Self::ResizeLarge => Outcome::OneOrBoth,
            Self::FreeMany => Outcome::Each,
            _ => Outcome::One,
        }
    }

    /// Whether it takes ten thousands of instructions: system calls, and what the C library does
    /// for them; or a look at every unit.
    pub(crate) fn is_long(self, policy: Policy) -> bool {
        match self {
            Self::FreeMany | Self::Join | Self::Connect | Self::Disconnect => true,
            Self::Adopt => policy == Policy::Scalable,
            _ => false,
        }
    }

    /// Whether the operator needs a peer that has died.
    fn needs_dead(self) -> bool {
        matches!(self, Self::Adopt | Self::AllocOverDead)
    }
}

/// An operator's things: made by [`prepare`](Self::prepare), used by [`operate`](Self::operate).
#[derive(Debug)]
pub(crate) struct Operator<'s> {
    op: Op,
    heap: &'s Heap,
    cell: &'s AtomicU64,
    objects: Vec<NonNull<u8>>,
    size: u64,
    /// Never dropped: an operator dies with what it has.
    unpublished: Option<ManuallyDrop<Unpublished<'s>>>,
    descriptor: Option<std::os::fd::OwnedFd>,
    second: Option<Heap>,
}

impl<'s> Operator<'s> {
    /// Makes ready, in the operator's process, for an operation on the site's heap.
    pub(crate) fn prepare(site: &'s Site, op: Op, random: &mut Random) -> Result<Self> {
        let heap = &site.heap;
        let mut operator = Self {
            op,
            heap,
            cell: site.cell()?,
            objects: vec![],
            size: random.log_uniform(1000),
            unpublished: None,
            descriptor: None,
            second: None,
        };
        match op {
            Op::Join => return Ok(operator),
            Op::Connect => operator.descriptor = Some(heap.to_fd()?),
            Op::Disconnect => {
                let second = Heap::connect_fd(heap.to_fd()?)?;
                for size in [24, 100, 3000] {
                    let object = bytes::alloc(&second, size)?;
                    bytes::stamp(&second, object, size, size);
                }
                operator.second = Some(second);
            }
            _ => operator.join(random)?,
        }
        operator.take_in_hand(site, random)?;
        if op.needs_dead() {
            let foreign = *site.objects.first().context("a site has objects")?;
            dying::leave(heap, foreign, random)?;
        }
        Ok(operator)
    }

    /// Has some objects, so that some size classes have slabs of this thread, others have none.
    fn join(&mut self, random: &mut Random) -> Result<()> {
        for _ in 0..1 + random.below(4) {
            let size = 16 * (1 + random.below(20));
            let object = bytes::alloc(self.heap, size)?;
            bytes::stamp(self.heap, object, size, size);
        }
        Ok(())
    }

    fn take_in_hand(&mut self, site: &Site, random: &mut Random) -> Result<()> {
        let size = self.size;
        let make = |size| {
            let object = bytes::alloc(self.heap, size)?;
            bytes::stamp(self.heap, object, size, size);
            anyhow::Ok(object)
        };
        match self.op {
            Op::FreeOwn | Op::Resize | Op::Move => self.objects.push(make(size)?),
            Op::FreeForeign => {
                let which = random.below(site.objects.len() as u64) as usize;
                self.objects.push(site.objects[which]);
            }
            Op::FreeMany => {
                let many = MANY[usize::from(self.heap.info().policy == Policy::FirstFit)];
                self.objects.extend(site.objects.iter().take(many));
            }
            Op::FreeLarge => self.objects.push(make(site.large_bytes())?),
            Op::ResizeLarge => {
                let long = make(site.large_bytes())?;
                // Leaves room behind it.
                let shorter = site.large_bytes() / 10 * 9;
                self.objects.push(bytes::realloc(self.heap, long, shorter)?);
            }
            Op::Publish | Op::Keep => {
                let object = self.heap.alloc_unpublished(bytes::layout(size, 1))?;
                bytes::stamp(self.heap, object.as_ptr(), size, 1);
                self.unpublished = Some(ManuallyDrop::new(object));
            }
            Op::Take | Op::TakeToFree => {
                let object = bytes::alloc_into(self.heap, size, self.cell)?;
                bytes::stamp(self.heap, object, size, 2);
            }
            _ => {}
        }
        Ok(())
    }

    /// The operation itself, under the trap.
    pub(crate) fn operate(&mut self) -> Result<()> {
        let (heap, size) = (self.heap, self.size);
        match self.op {
            Op::Alloc | Op::AllocOverDead => drop(bytes::alloc(heap, size)?),
            Op::AllocLarge => {
                let large = if heap.info().policy == Policy::Scalable { LARGE_BYTES } else { 9000 };
                bytes::alloc(heap, large)?;
            }
            Op::AllocAligned => drop(heap.alloc(bytes::layout(size, 512))?),
            Op::FreeOwn | Op::FreeForeign | Op::FreeLarge | Op::FreeMany => {
                self.objects.iter().try_for_each(|&object| bytes::free(heap, object))?;
            }
            Op::Resize => drop(bytes::realloc(heap, self.objects[0], size + size / 2)?),
            Op::ResizeLarge => {
                let now = heap.usable_size(self.objects[0])? as u64;
                let new = if size.is_multiple_of(2) { now + now / 20 } else { now - now / 10 };
                bytes::realloc(heap, self.objects[0], new)?;
            }
            Op::Move => drop(bytes::realloc(heap, self.objects[0], 4 * size + 64)?),
            Op::AllocUnpublished => forget(heap.alloc_unpublished(bytes::layout(size, 1))?),
            Op::Publish => {
                let object = self.unpublished.take().context("nothing to publish")?;
                bytes::publish(ManuallyDrop::into_inner(object), self.cell)
                    .map_err(|refused| anyhow!("{refused:?}"))?;
            }
            Op::AllocInto => drop(bytes::alloc_into(heap, size, self.cell)?),
            Op::Take => forget(bytes::take(heap, self.cell)?.context("an empty cell")?),
            Op::TakeToFree => drop(bytes::take(heap, self.cell)?.context("an empty cell")?),
            Op::Keep => {
                let object = self.unpublished.take().context("nothing to keep")?;
                let _ = ManuallyDrop::into_inner(object).keep();
            }
            Op::Grow => drop(heap.grow(heap.info().len_bytes + (64 << 10))?),
            Op::Trim => drop(heap.trim()?),
            Op::Join | Op::Adopt => drop(heap.sweep()?),
            Op::Connect => {
                let descriptor = self.descriptor.take().context("nothing to connect to")?;
                self.second = Some(Heap::connect_fd(descriptor)?);
            }
            Op::Disconnect => drop(self.second.take()),
        }
        Ok(())
    }
}
