//! A broker process of an own peer.

use std::{
    io::{Write as _, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::LocalSet};
use zonecast_bakeoff::{grpc, target::PeerTarget, tcp, tls, tls::Certificates};

use crate::peer::Peer;

/// What to do where ZeroMQ was asked for and is not there.
#[cfg(not(feature = "zeromq"))]
pub(crate) const NO_ZEROMQ: &str = "built without ZeroMQ; build with --features zeromq, which needs libzmq3-dev";

/// Which broker, and who it is.
#[derive(Debug, Args)]
pub(crate) struct BrokerOptions {
    /// Whose broker
    peer: Peer,
    /// The authority that clients trust
    #[arg(long)]
    ca: PathBuf,
    /// The certificate
    #[arg(long)]
    certificate: PathBuf,
    /// Its key
    #[arg(long)]
    key: PathBuf,
}

/// Prints where it listens as a line of JSON, and serves until its standard input ends.
pub(crate) async fn serve(options: BrokerOptions) -> anyhow::Result<ExitCode> {
    let BrokerOptions { peer, ca, certificate, key } = options;
    let certificates = Certificates { ca, certificate, key };
    let serving = async {
        match peer {
            Peer::Tcp => {
                let listener = listen(&certificates).await?;
                tcp::serve(listener, certificates.server()?).await?;
            }
            Peer::Grpc => {
                tls::install_provider();
                let listener = listen(&certificates).await?;
                grpc::serve(listener, grpc::server_tls(&certificates)?).await?;
            }
            #[cfg(feature = "zeromq")]
            Peer::Zmq => {
                use zonecast_bakeoff::zeromq::{Listener, serve};

                let listener = Listener::bind().context("no ZeroMQ socket")?;
                tell(&listener.target().context("libzmq names no address")?)?;
                tokio::task::spawn_blocking(move || serve(listener)).await??;
            }
            #[cfg(not(feature = "zeromq"))]
            Peer::Zmq => bail!(NO_ZEROMQ),
            other => bail!("the broker of {other} is another program"),
        }
        bail!("the broker has ended by itself")
    };
    let mut input = tokio::io::stdin();
    LocalSet::new()
        .run_until(async {
            tokio::select! {
                served = serving => served,
                // Whatever comes is passed over; who started this never writes anything.
                _ = async { while input.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {} } => {
                    // Not by returning: the runtime would wait for the blocking threads.
                    std::process::exit(0)
                }
            }
        })
        .await
}

async fn listen(certificates: &Certificates) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port")?;
    let ca = Some(certificates.ca.clone());
    tell(&PeerTarget { address: listener.local_addr()?, ca, curve_key: None })?;
    Ok(listener)
}

fn tell(target: &PeerTarget) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(target)?);
    Ok(stdout().flush()?)
}
