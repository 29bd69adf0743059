use proptest::prelude::*;

use super::*;

fn same(one: &str, other: &str) -> bool {
    Name::new(one).unwrap().key() == Name::new(other).unwrap().key()
}

fn alike(one: &str, other: &str) -> bool {
    Name::new(one).unwrap().lookalike() == Name::new(other).unwrap().lookalike()
}

#[test]
fn names_of_many_scripts_are_names() {
    for name in [
        "bob",
        "Bob_the-2nd",
        "a.b.c",
        "Zoë",
        "Ольга",
        "Αλέξης",
        "さくら",
        "桜tree",
        "서울abc",
        "नमस्ते",
        "ไทยใหญ่",
        "مريم",
        "שרה",
        &"x".repeat(32),
    ] {
        assert!(Name::new(name).is_ok(), "{name}: {:?}", Name::new(name));
    }
}

#[test]
fn what_breaks_a_rule_is_told_which() {
    for (text, kind) in [
        ("", "length"),
        ("ab", "length"),
        (&"x".repeat(33), "length"),
        (&"x".repeat(100_000), "length"),
        ("a b", "character"),
        ("a\nb", "character"),
        ("a\0b", "character"),
        ("a\u{200b}b", "character"),
        ("a\u{200d}b", "character"),
        ("a\u{ad}bc", "character"),
        ("a\u{202e}bc", "character"),
        ("a\u{2066}bc", "character"),
        ("a\u{feff}bc", "character"),
        ("a\u{e0041}bc", "character"),
        ("bob😀", "character"),
        ("bob@x", "character"),
        ("<b>x", "character"),
        (".bob", "separator"),
        ("bob-", "separator"),
        ("bo..b", "separator"),
        ("\u{301}bob", "marks"),
        ("bo-\u{301}b", "marks"),
        ("ก\u{e38}\u{e48}\u{e38}\u{e48}ก", "marks"),
        ("pаypal", "mixed_scripts"),
        ("Αdam", "mixed_scripts"),
        ("admin", "reserved"),
        ("ADMIN", "reserved"),
        ("Ad.Min", "reserved"),
        ("ａｄｍｉｎ", "reserved"),
        ("rn0derator", "reserved"),
    ] {
        let error = Name::new(text).err().unwrap_or_else(|| panic!("{text:?} is a name"));
        assert_eq!(error.kind(), kind, "{text:?}");
        assert!(!error.to_string().contains(|c: char| c.is_control()), "{error}");
    }
}

#[test]
fn names_that_differ_in_case_width_or_composition_are_the_same() {
    assert!(same("Bob", "bOB") && same("Zoë", "zoe\u{308}") && same("Straße", "STRASSE") && same("ｂｏｂ", "bob"));
    assert!(same("Οδυσσεύς", "ΟΔΥΣΣΕΎΣ") && same("ﬁsh", "fish"));
    assert!(!same("bob", "bobb") && !same("zoe", "zoë"));
}

#[test]
fn names_that_look_alike_are_known() {
    assert!(alike("paypal", "paypa1") && alike("paypal", "PayPaI") && alike("modern", "modem"));
    // All Cyrillic, as the first script rule permits.
    assert!(alike("сосо", "coco"));
    assert!(!alike("paypal", "paypai") && !alike("anna", "hanna"));
}

proptest! {
    /// A key is the same for whoever looks a name up by how it is shown, and a name stays one.
    #[test]
    fn a_name_is_found_by_how_it_is_shown(text in "[\\PC]{1,40}") {
        if let Ok(name) = Name::new(&text) {
            let key = lookup_key(&text);
            prop_assert_eq!(key.as_deref(), Some(name.key()));
            prop_assert_eq!(name_key(name.key()), name.key());
            prop_assert_eq!(Name::new(name.shown()), Ok(name.clone()));
            prop_assert!(!name.shown().contains(|c: char| c.is_control() || c.is_whitespace()));
        }
    }

    /// Nothing that anybody sends makes it panic.
    #[test]
    fn any_text_is_taken_or_refused(text in any::<String>()) {
        let _ = Name::new(&text);
        let _ = lookup_key(&text);
    }
}
