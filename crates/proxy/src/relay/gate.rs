//! The connections of the circuit proxy.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Refusal;

/// The limits of the connections of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// Connections of one pledge at once.
    pub per_pledge: usize,
    /// Connections of the link at once.
    pub per_link: usize,
}

/// Counts the connections of one link.
#[derive(Debug)]
pub struct Gate {
    limits: GateLimits,
    of_pledge: HashMap<IpAddr, usize>,
    open: usize,
}

impl Gate {
    /// A gate that nobody went through.
    #[must_use]
    pub fn new(limits: GateLimits) -> Self {
        Self {
            limits,
            of_pledge: HashMap::new(),
            open: 0,
        }
    }

    /// A pledge connects.
    ///
    /// # Errors
    /// [`Refusal::PledgeFull`] and [`Refusal::LinkFull`].
    pub fn enter(&mut self, pledge: IpAddr) -> Result<(), Refusal> {
        if self.open >= self.limits.per_link {
            return Err(Refusal::LinkFull);
        }
        let count = self.of_pledge.get(&pledge).copied().unwrap_or_default();
        if count >= self.limits.per_pledge {
            return Err(Refusal::PledgeFull);
        }
        self.of_pledge.insert(pledge, count + 1);
        self.open += 1;
        Ok(())
    }

    /// A connection that [`enter`](Self::enter) let in is closed.
    pub fn leave(&mut self, pledge: IpAddr) {
        if let Some(count) = self.of_pledge.get_mut(&pledge) {
            *count -= 1;
            self.open -= 1;
            if *count == 0 {
                self.of_pledge.remove(&pledge);
            }
        }
    }

    /// Connections at this moment.
    #[must_use]
    pub const fn open(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pledges_and_link_have_their_limits() {
        let mut gate = Gate::new(GateLimits {
            per_pledge: 2,
            per_link: 3,
        });
        let [one, two]: [IpAddr; 2] = ["fe80::1", "fe80::2"].map(|text| text.parse().unwrap());
        assert_eq!(gate.enter(one), Ok(()));
        assert_eq!(gate.enter(one), Ok(()));
        assert_eq!(gate.enter(one), Err(Refusal::PledgeFull));
        assert_eq!(gate.enter(two), Ok(()));
        assert_eq!(gate.enter(two), Err(Refusal::LinkFull));
        gate.leave(one);
        assert_eq!(gate.enter(two), Ok(()));
        for pledge in [one, two, two, two, one] {
            gate.leave(pledge);
        }
        assert_eq!((gate.open(), gate.of_pledge.len()), (0, 0));
    }
}
