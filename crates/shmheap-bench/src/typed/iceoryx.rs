//! iceoryx2: publish-subscribe in shared memory, without a copy and without locks.
//!
//! Its subscribers look for messages themselves; to sleep until one comes is another of its
//! services, which is not measured here. Publishers are told to wait for room, as channels do.

use anyhow::Result;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use super::{Facility, Ground, LINE_CAPACITY, Lines, Receiver, Sender};
use crate::board::Patience;
use crate::peer::Sharing;

#[derive(Debug)]
pub(crate) struct Iceoryx;

/// The name of the services, one for each line. Its parts stay with the thread that makes them.
#[derive(Debug)]
pub(crate) struct Site(String);

impl Facility for Iceoryx {
    type Site = Site;

    fn name(&self) -> &'static str {
        "iceoryx2"
    }

    fn description(&self) -> String {
        let version = env!("VERSION_OF_ICEORYX2");
        format!("{version}, publish-subscribe; receivers look until something has come")
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn refuses(&self, workers: usize) -> Option<&'static str> {
        (workers > 2).then_some("every subscriber gets every message")
    }

    fn lay_out(&self, name: &str) -> Result<Ground> {
        set_log_level(LogLevel::Error);
        // Services are there as long as somebody uses them.
        Ok(Ground::new(name, ()))
    }

    fn enter(&self, address: &str) -> Result<Site> {
        set_log_level(LogLevel::Error);
        Ok(Site(address.to_owned()))
    }
}

type Message<const N: usize> = [u64; N];
type Service<const N: usize> = PortFactory<ipc::Service, Message<N>, ()>;

impl Site {
    fn service<const N: usize>(&self, line: usize) -> Result<(Node<ipc::Service>, Service<N>)> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let name = format!("{}/{line}", self.0);
        let service = node.service_builder(&name.as_str().try_into()?);
        let service = service
            .publish_subscribe::<Message<N>>()
            .subscriber_max_buffer_size(LINE_CAPACITY)
            .enable_safe_overflow(false)
            .history_size(0)
            .open_or_create()?;
        Ok((node, service))
    }
}

/// The end to send to.
struct Publishing<const N: usize> {
    publisher: Publisher<ipc::Service, Message<N>, ()>,
    _service: Service<N>,
    _node: Node<ipc::Service>,
}

/// The end to receive from.
struct Subscribing<const N: usize> {
    subscriber: Subscriber<ipc::Service, Message<N>, ()>,
    _service: Service<N>,
    _node: Node<ipc::Service>,
}

impl<const N: usize> Lines<N> for Site {
    fn sender(&self, line: usize) -> Result<impl Sender<N> + '_> {
        let (node, service) = self.service::<N>(line)?;
        let publisher = service.publisher_builder();
        let publisher =
            publisher.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create()?;
        Ok(Publishing { publisher, _service: service, _node: node })
    }

    fn receiver(&self, line: usize) -> Result<impl Receiver<N> + '_> {
        let (node, service) = self.service::<N>(line)?;
        let subscriber = service.subscriber_builder().buffer_size(LINE_CAPACITY).create()?;
        Ok(Subscribing { subscriber, _service: service, _node: node })
    }
}

impl<const N: usize> Sender<N> for Publishing<N> {
    #[inline]
    fn send(&mut self, message: [u64; N]) -> Result<()> {
        let mut patience = Patience::default();
        // Nobody gets it where the buffer is full before the subscriber has looked for the first
        // time: then it is gone, also for publishers that wait for room.
        while self.publisher.loan_uninit()?.write_payload(message).send()? == 0 {
            patience.wait();
        }
        Ok(())
    }
}

impl<const N: usize> Receiver<N> for Subscribing<N> {
    #[inline]
    fn receive(&mut self) -> Result<[u64; N]> {
        let mut patience = Patience::default();
        loop {
            match self.subscriber.receive()? {
                Some(sample) => return Ok(*sample.payload()),
                None => patience.wait(),
            }
        }
    }
}
