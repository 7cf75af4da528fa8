//! Gossip topics with closed doors: only the members of a topic hear what is published on it, and only they are heard.
//!
//! gossipsub sends to whoever subscribes, and its filter of subscriptions is not told who that is. So the behaviour is wrapped:
//! what a peer says is looked at first, and the filter then knows whose subscriptions it judges. A subscription to a topic that
//! this node has not joined (yet) is remembered and judged again when it joins, since a peer says it once only.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::gossipsub::{
    self, IdentTopic, IdentityTransform, MessageAcceptance, MessageAuthenticity, MessageId,
    PublishError, SubscriptionError, TopicHash, TopicSubscriptionFilter,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

/// What each peer said of its subscriptions and may count later: so many sayings of each at most, the oldest go first.
const REMEMBERED_MAX: usize = 4_096;
/// Refusals that were not told yet, at most.
const UNTOLD_MAX: usize = 64;

type Inner = gossipsub::Behaviour<IdentityTransform, Doorkeeper>;
type Said = THandlerOutEvent<Inner>;

/// Who belongs to which topic.
#[derive(Default)]
struct Doors {
    members: HashMap<TopicHash, HashSet<PeerId>>,
    /// Whose subscriptions are being judged; nobody's while this node itself subscribes.
    asking: Option<PeerId>,
}

/// Judges subscriptions.
#[derive(Clone, Default)]
pub(crate) struct Doorkeeper(Arc<Mutex<Doors>>);

impl Doorkeeper {
    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TopicSubscriptionFilter for Doorkeeper {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        let doors = self.doors();
        let members = doors.members.get(topic);
        members.is_some_and(|m| doors.asking.is_none_or(|peer| m.contains(&peer)))
    }
}

/// What comes of it.
#[derive(Debug)]
pub(crate) enum TopicEvent {
    /// Of gossipsub.
    Gossip(gossipsub::Event),
    /// Somebody subscribed to, or published on, a topic of this node of which it is no member.
    TurnedAway(PeerId),
}

/// gossipsub behind its doors.
pub(crate) struct Topics {
    inner: Inner,
    keeper: Doorkeeper,
    /// What peers said of their subscriptions to topics that this node had not joined then.
    remembered: HashMap<PeerId, VecDeque<Said>>,
    turned_away: VecDeque<PeerId>,
}

impl Topics {
    pub(crate) fn new(config: gossipsub::Config) -> Result<Self, &'static str> {
        let keeper = Doorkeeper::default();
        let inner = Inner::new_with_subscription_filter(
            MessageAuthenticity::Anonymous,
            config,
            keeper.clone(),
        )?;
        Ok(Self {
            inner,
            keeper,
            remembered: HashMap::new(),
            turned_away: VecDeque::new(),
        })
    }

    /// Joins and leaves, so that these are the topics, each with its members. Gives peers that are no members of a topic any more:
    /// gossipsub forgets their subscriptions only with their connections.
    pub(crate) fn set(
        &mut self,
        topics: HashMap<String, HashSet<PeerId>>,
    ) -> Result<HashSet<PeerId>, SubscriptionError> {
        let named: Vec<_> = topics
            .into_iter()
            .map(|(name, members)| (IdentTopic::new(name), members))
            .collect();
        let new: HashMap<_, _> = named.iter().map(|(t, m)| (t.hash(), m.clone())).collect();
        let old = std::mem::replace(&mut self.keeper.doors().members, new.clone());
        let mut lost = HashSet::new();
        let mut gained = HashSet::new();
        for (topic, members) in &old {
            match new.get(topic) {
                Some(now) => lost.extend(members.difference(now)),
                None => drop(self.inner.unsubscribe(&IdentTopic::new(topic.as_str()))),
            }
        }
        for (topic, members) in &named {
            let before = old.get(&topic.hash());
            let joined = |m: &&PeerId| before.is_none_or(|b| !b.contains(*m));
            gained.extend(members.iter().filter(joined).copied());
            if before.is_none() {
                self.inner.subscribe(topic)?;
            }
        }
        for peer in gained {
            let said = self.remembered.remove(&peer).unwrap_or_default();
            for said in said {
                self.hear(peer, ConnectionId::new_unchecked(0), said);
            }
        }
        Ok(lost)
    }

    pub(crate) fn publish(&mut self, topic: String, bytes: Vec<u8>) -> Result<(), PublishError> {
        self.inner.publish(TopicHash::from_raw(topic), bytes)?;
        Ok(())
    }

    pub(crate) fn judged(&mut self, id: &MessageId, from: &PeerId, verdict: MessageAcceptance) {
        self.inner
            .report_message_validation_result(id, from, verdict);
    }

    fn is_member(&self, topic: &TopicHash, peer: &PeerId) -> Option<bool> {
        let doors = self.keeper.doors();
        doors.members.get(topic).map(|m| m.contains(peer))
    }

    /// Takes in what a peer says: what it publishes where it is no member is not heard, and what it subscribes to elsewhere is
    /// remembered.
    fn hear(&mut self, peer: PeerId, connection: ConnectionId, mut said: Said) {
        if let Said::Message { rpc, .. } = &mut said {
            let before = rpc.messages.len();
            rpc.messages
                .retain(|m| self.is_member(&m.topic, &peer) == Some(true));
            let subscriptions = rpc.subscriptions.iter();
            let judged: Vec<_> = subscriptions
                .map(|s| self.is_member(&s.topic_hash, &peer))
                .collect();
            if rpc.messages.len() < before || judged.contains(&Some(false)) {
                tracing::debug!(%peer, "a peer wants a topic of which it is no member");
                if self.turned_away.len() < UNTOLD_MAX {
                    self.turned_away.push_back(peer);
                }
            }
            if judged.iter().any(|j| *j != Some(true)) {
                let mut rpc = rpc.clone();
                rpc.messages.clear();
                rpc.control_msgs.clear();
                let said = Said::Message {
                    rpc,
                    invalid_messages: Vec::new(),
                };
                let remembered = self.remembered.entry(peer).or_default();
                remembered.push_back(said);
                if remembered.len() > REMEMBERED_MAX {
                    remembered.pop_front();
                }
            }
        }
        self.keeper.doors().asking = Some(peer);
        self.inner
            .on_connection_handler_event(peer, connection, said);
        self.keeper.doors().asking = None;
    }
}

impl NetworkBehaviour for Topics {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = TopicEvent;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event
            && closed.remaining_established == 0
        {
            self.remembered.remove(&closed.peer_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        said: THandlerOutEvent<Self>,
    ) {
        self.hear(peer, connection, said);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(peer) = self.turned_away.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(TopicEvent::TurnedAway(peer)));
        }
        self.inner.poll(cx).map(|e| e.map_out(TopicEvent::Gossip))
    }
}
