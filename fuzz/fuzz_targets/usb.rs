//! Paths of removable storage: a serial number never leads out of the stick, and a path leads
//! back to the serial number that it was made of.
#![no_main]
use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use sztp::usb::{Artefact, Layout};

fuzz_target!(|text: &str| {
    for layout in [Layout::general("v").expect("a good name"), Layout::IosXr] {
        if let Ok(path) = layout.path(text, Artefact::ConveyedInformation) {
            assert!(
                path.components()
                    .all(|part| matches!(part, Component::Normal(_)))
            );
            assert_eq!(path.components().count(), 4);
            assert_eq!(
                layout.recognise(&path),
                Some((text.to_owned(), Artefact::ConveyedInformation))
            );
        }
        if let Some((serial, artefact)) = layout.recognise(Path::new(text)) {
            let candidates = layout
                .candidates(&serial, artefact)
                .expect("a name of the layout");
            assert!(candidates.iter().any(|path| path == Path::new(text)));
        }
        let _ = layout.image_uris(text);
    }
    let _ = Layout::general(text);
});
