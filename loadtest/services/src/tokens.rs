//! Checks of access tokens, offline: what every call and every hello pays.

use std::hint::black_box;

use anyhow::Result;
use zonecast_protocol::{Area, Rights, Zone};

use crate::{
    Figures, Scale,
    authority::{Authority, now_s},
    ground::{Clock, cpu_s},
};

/// Tokens to check.
pub(crate) struct Tokens {
    authority: Authority,
    tokens: [(&'static str, String); 2],
}

impl Tokens {
    pub(crate) fn prepare() -> Result<Self> {
        let authority = Authority::new()?;
        let rectangle = |at: u8| Zone::new(f64::from(at), 0.0, f64::from(at) + 1.0, 1.0);
        let zones = Area::Within((0..100).map(rectangle).collect::<Result<_, _>>()?);
        let many = Rights { zones, ..Rights::everything() };
        let tokens = [
            ("token check", authority.token("user:bench", &[], Rights::everything())?),
            ("token check, 100 rectangles", authority.token("server:bench", &[], many)?),
        ];
        Ok(Self { authority, tokens })
    }

    pub(crate) fn measure(&self, scale: &Scale, figures: &mut Figures) -> Result<()> {
        let now = now_s();
        for (name, token) in &self.tokens {
            self.authority.trust.admit(token, now)?;
            let begun = cpu_s(Clock::Thread);
            for _ in 0..scale.checks {
                let _ = black_box(self.authority.trust.admit(black_box(token), now));
            }
            let each = (cpu_s(Clock::Thread) - begun) / f64::from(scale.checks);
            figures.note(*name, "checks/s and core", 1.0 / each);
        }
        Ok(())
    }
}
