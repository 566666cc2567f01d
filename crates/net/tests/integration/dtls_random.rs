//! What the fuzz target does, with numbers from a seed.

#[path = "../../../../fuzz/dtls.rs"]
mod world;

/// Requirements: DTL-004, DTL-009, JPX-048
#[test]
fn a_network_that_does_anything() {
    let world = world::World::new();
    assert!(world.run(&[0]), "a network that does nothing wrong");
    assert!(world.run(&[1]), "the same with DTLS 1.3");
    let mut state: u64 = 4;
    let mut next = || {
        // Knuth's multiplier; the high bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        u8::try_from(state >> 56).unwrap_or_default()
    };
    let mut established = [0; 2];
    for _ in 0..1000 {
        let length = usize::from(next()) + 20;
        let mut input: Vec<u8> = (0..length).map(|_| next()).collect();
        // Half of the networks are mostly sound, so that some get far.
        if input[0] & 2 == 0 {
            for byte in input.iter_mut().skip(1) {
                if *byte & 0x60 != 0 {
                    *byte |= 0x14;
                }
            }
        }
        established[usize::from(input[0] % 2)] += usize::from(world.run(&input));
    }
    println!("{established:?} of 1000 established");
    assert!(established.iter().all(|count| *count > 100));
}
