//! What `zonecast dev` tells a newcomer to try.

use std::{io::Write, net::SocketAddr, path::PathBuf};

/// Where things are.
pub(super) struct Places {
    pub(super) services: SocketAddr,
    pub(super) provider: String,
    /// The file with the game server's credential.
    pub(super) meadow: PathBuf,
}

/// Prints the commands, which can be pasted as they are.
pub(super) fn print(told: &mut impl Write, places: &Places) -> anyhow::Result<()> {
    let Places { services, provider, meadow } = places;
    let meadow = meadow.display();
    writeln!(
        told,
        r#"  export ZONECAST_SERVICES={services}
A player signs up, logs in, links an identity of another provider, makes a character, and asks where to appear:
  zonecast call auth/Register '{{"name": "zoe", "password": "a meadow full of flowers"}}'
  export ZONECAST_TOKEN=$(zonecast call auth/LogIn '{{"name": "zoe", "password": "a meadow full of flowers"}}' \
      --field tokens.accessToken)
  NONCE=$(zonecast call auth/BeginExternal '{{"provider": "dev"}}' --field nonce)
  IDENTITY=$(curl -s {provider}/token/zoe-elsewhere/$NONCE)
  zonecast call auth/LinkIdentity '{{"proof": {{"provider": "dev", "token": "'$IDENTITY'", "nonce": "'$NONCE'"}}}}'
  CHARACTER=$(zonecast call characters/CreateCharacter '{{"world": "meadow", "name": "Zoe"}}' --field character.id)
  zonecast call directory/Spawn '{{"characterId": "'$CHARACTER'"}}'      # nobody simulates that place yet
In another terminal, a game server claims it and hears what happens there. Then Spawn answers with it, and a ticket:
  zonecast game-server --name meadow --credential {meadow} --zone meadow:0,0,1000,1000
  zonecast call directory/Spawn '{{"characterId": "'$CHARACTER'"}}'
An event reaches it only with a token that permits that place:
  ZONECAST_TOKEN=$(zonecast call auth/IssueToken - --field accessToken < {meadow}) \
      zonecast pub --client-id meadow.spark --world meadow --at 10,10 --radius 5 --kind fire 'it burns'
  zonecast pub --world meadow --at 10,10 --radius 5 'not by a player'
(`cargo run --release --` in place of `zonecast` when it is not installed.) `zonecast call` lists all methods. Ctrl-C ends it.
"#
    )?;
    Ok(told.flush()?)
}
