//! Shared state: two replicas of a field write at the same time, and agree.
//!
//! A field is what is; waves are what happened. Reads are local, writes are visible here at once and travel in the
//! background. Of two concurrent writes of one register the later wins, and the loser is notified. Counters and sets
//! lose nothing. With `aether::connect("nats://..")` the replicas can be in different processes.
//!
//! `cargo run -p aether-examples --example 10_field`

use aether_core::Aether;
use aether_field::Field;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let aether = Aether::local();
    let hall = Field::builder("home").replica("hall").join(&aether).await?;
    let kitchen = Field::builder("home").replica("kitchen").join(&aether).await?;
    let mut superseded = hall.superseded();

    // Both write before either has heard of the other.
    hall.set("lamp/1", "off")?;
    kitchen.set("lamp/1", "on")?;
    for field in [&hall, &kitchen] {
        field.add("switched", 1)?;
        field.insert("rooms", field.writer().to_string())?;
    }

    // Returns once one other replica has everything that this one has.
    hall.agreed(1).await?;
    for field in [&hall, &kitchen] {
        assert_eq!(field.get::<String>("lamp/1")?.as_deref(), Some("on"));
        assert_eq!((field.count("switched"), field.members("rooms").len()), (2, 2));
    }
    let lost = superseded.next().await.ok_or("the field is closed")?;
    println!("the hall wrote {:?}, the kitchen won with {:?}", lost.lost, lost.winner);

    // A replica that comes later gets everything.
    let garden = Field::builder("home").replica("garden").join(&aether).await?;
    garden.agreed(2).await?;
    assert_eq!(garden.digest(), hall.digest());
    println!("the garden has {} registers", garden.list("*").len());
    Ok(())
}
