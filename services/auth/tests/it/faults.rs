//! Floods, kills, and two at once.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tonic::Code;
use zonecast_api::auth::v1::auth_service_client::AuthServiceClient;
use zonecast_auth::{HashingConfig, MIGRATIONS};
use zonecast_protocol::auth::v1::RegisterRequest;
use zonecast_testing::{Kind, TestDatabase, on_both_databases};

use crate::ground::{CHEAP, Ground, PASSWORD, changes, config, eventually, log_in, pass};

async fn of_two_registers_of_one_name_one_is_done(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    let mut registering = JoinSet::new();
    for number in 0..8 {
        let mut client = ground.anybody();
        let name = if number % 2 == 0 { "contested" } else { "CONTESTED" }.to_owned();
        registering.spawn(async move { client.register(RegisterRequest { name, password: PASSWORD.into() }).await });
    }
    let outcomes = registering.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    }
    ground.log_in("contested", PASSWORD).await.unwrap();
    assert_eq!(changes(&test.database, "users.created").await.len(), 1);
}

async fn a_kill_between_user_and_credential_loses_no_name(test: TestDatabase) {
    let ground = Ground::new(&test.database).await;
    ground.is_mute.store(true, Relaxed);
    let mut client = ground.anybody();
    let request = RegisterRequest { name: "half".into(), password: PASSWORD.into() };
    let registering = tokio::spawn(async move { client.register(request).await });
    ground.made.notified().await;
    registering.abort();
    assert!(registering.await.unwrap_err().is_cancelled());
    ground.tasks.end().await;

    // The name is taken by a user who cannot log in, until it is clear that nobody completes it.
    let ground = Ground::new(&test.database).await;
    assert_eq!(ground.register("half").await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(ground.log_in("half", PASSWORD).await.unwrap_err().code(), Code::Unauthenticated);
    ground.tasks.end().await;
    pass(Duration::from_secs(61));
    let ground = Ground::new(&test.database).await;
    eventually(async || !changes(&test.database, "users.deleted").await.is_empty()).await;
    ground.register("half").await.unwrap();
    ground.log_in("half", PASSWORD).await.unwrap();
}

on_both_databases! {
    [zonecast_users::MIGRATIONS, MIGRATIONS]
    of_two_registers_of_one_name_one_is_done
    a_kill_between_user_and_credential_loses_no_name
}

/// A thousand wrong passwords from one place, for one name and for many, while others log in from elsewhere, at what
/// passwords cost in truth.
#[test]
fn a_thousand_wrong_passwords_do_not_keep_others_out() {
    zonecast_testing::run(Kind::Sqlite, &[&zonecast_users::MIGRATIONS, &MIGRATIONS], async |test| {
        let mut config = config();
        config.hashing = HashingConfig { threads: 1, ..HashingConfig::default() };
        config.throttle.origin_burst = 10_000;
        let ground = Ground::with(&test.database, config).await;
        for number in 0..8 {
            ground.register(&format!("honest-{}", "x".repeat(number + 1))).await.unwrap();
        }
        let alone = Instant::now();
        ground.log_in("honest-x", PASSWORD).await.unwrap();
        let alone = alone.elapsed();
        let started = Instant::now();
        let mut wrong = JoinSet::new();
        for number in 0..1_000 {
            let mut client = AuthServiceClient::new(ground.from(666, ""));
            let name =
                if number % 2 == 0 { "honest-x".to_owned() } else { format!("guess{}", "x".repeat(number % 25)) };
            wrong.spawn(async move { log_in(&mut client, &name, "a wrong but long password").await });
        }
        let mut honest = JoinSet::new();
        for number in 1..8_u64 {
            let mut client = AuthServiceClient::new(ground.from(number, ""));
            let name = format!("honest-{}", "x".repeat(usize::try_from(number).unwrap() + 1));
            honest.spawn(async move {
                log_in(&mut client, &name, PASSWORD).await.unwrap();
                started.elapsed()
            });
        }
        let mut slowest = Duration::ZERO;
        while let Some(took) = honest.join_next().await {
            slowest = slowest.max(took.unwrap());
        }
        let outcomes = wrong.join_all().await;
        let codes =
            |code| outcomes.iter().filter(move |outcome| outcome.as_ref().is_err_and(|status| status.code() == code));
        let (refused, held_back) = (codes(Code::Unauthenticated).count(), codes(Code::ResourceExhausted).count());
        println!(
            "the slowest of 7 logins took {slowest:?}; of 1,000 wrong ones {refused} were hashed, {held_back} held back"
        );
        assert_eq!(refused + held_back, 1_000);
        // At most the 66 places of the queue lie before a login, and twice that on a machine that has other work.
        assert!(slowest < alone * 132 + Duration::from_secs(5), "{slowest:?}, alone {alone:?}");
    });
}

/// The time of a login tells nothing of whether there is such a name: both hash once.
#[test]
fn an_unknown_name_takes_as_long_as_a_wrong_password() {
    zonecast_testing::run(Kind::Sqlite, &[&zonecast_users::MIGRATIONS, &MIGRATIONS], async |test| {
        let mut config = config();
        config.hashing = HashingConfig { memory_kib: 8 * 1_024, threads: 1, ..CHEAP };
        config.throttle.account_burst = 1_000;
        let ground = Ground::with(&test.database, config).await;
        ground.register("zoe").await.unwrap();
        let time = async |name: &str| {
            let started = Instant::now();
            ground.log_in(name, "a wrong but long password").await.unwrap_err();
            started.elapsed()
        };
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for _ in 0..25 {
            known.push(time("zoe").await);
            unknown.push(time("nobody7").await);
        }
        // Whatever else the machine does only adds to the least.
        let (known, unknown) = (*known.iter().min().unwrap(), *unknown.iter().min().unwrap());
        println!("known {known:?}, unknown {unknown:?}");
        assert!(known < unknown * 2 && unknown < known * 2, "{known:?} {unknown:?}");
    });
}
