//! Declarations and registrations of users, sensors and nodes (wire-format §6).

use crate::file::File;
use diversity_proto::entity::{
    NodeDeclaration, Period, SensorDeclaration, node_registration_digest, peer_binding_digest,
    sensor_registration_digest,
};
use diversity_proto::frame::{Variable, VariableType};
use diversity_proto::terms::{
    eip712_domain, node_owner_digest, sensor_owner_digest, sensors_owner_digest, user_digest,
};

#[test]
fn registration() {
    let mut f = File::open("registration.json");
    let d = f.deployment();
    f.gives("deployment", d.bytes());
    f.gives("domain_separator", eip712_domain(&d).0);

    let user = f.key("user", 0x41);
    let name = f.text("user_name", "Operator Ltd");
    let digest = user_digest(&d, &user.id(), &name);
    f.gives("user_digest", digest.0);
    f.gives("user_signature", user.sign_recoverable(&digest.0));

    let sensor = f.key("sensor", 0x11);
    let names = f.texts(
        "sensor_variable_names",
        &["state", "battery_mv", "position"],
    );
    let types = f.texts("sensor_variable_types", &["bool", "u16", "bytes32"]);
    let declaration = SensorDeclaration {
        public_key: sensor.public(),
        sensor_type: f.text("sensor_type", "bike-lock"),
        label: f.text("sensor_label", "BIK0042 \u{fc}"),
        variables: names
            .into_iter()
            .zip(types)
            .map(|(name, ty)| Variable {
                name,
                ty: VariableType::from_name(&ty).expect("a type"),
            })
            .collect(),
        period: Period::Month,
    };
    let encoding = declaration.encode();
    assert_eq!(
        SensorDeclaration::decode(&encoding).as_ref(),
        Ok(&declaration)
    );
    f.gives("sensor_declaration", &encoding);
    f.gives("sensor_declaration_digest", declaration.digest().0);
    let (owner, id) = (user.id(), sensor.id());
    // How many entities the owner has had before: the user itself.
    let count = f.number("sensor_count", 1);
    let digest = sensor_owner_digest(&d, &id, &owner, &declaration.digest(), count);
    f.gives("sensor_owner_digest", digest.0);
    f.gives("sensor_owner_signature", user.sign_recoverable(&digest.0));
    let digest = sensor_registration_digest(&d, &owner, &id, &declaration.digest());
    f.gives("sensor_registration_digest", digest.0);
    f.gives(
        "sensor_registration_signature",
        sensor.sign_recoverable(&digest.0),
    );

    // The same sensor and another, both under one signature of their owner.
    let other = f.key("other_sensor", 0x12);
    let second = SensorDeclaration {
        public_key: other.public(),
        label: f.text("other_sensor_label", "BIK0043"),
        ..declaration.clone()
    };
    f.gives("other_sensor_declaration", second.encode());
    f.gives("other_sensor_declaration_digest", second.digest().0);
    let digest = sensor_registration_digest(&d, &owner, &other.id(), &second.digest());
    f.gives(
        "other_sensor_registration_signature",
        other.sign_recoverable(&digest.0),
    );
    let both = [(id, declaration.digest()), (other.id(), second.digest())];
    let count = f.number("sensors_count", 2);
    let digest = sensors_owner_digest(&d, &owner, &both, count);
    f.gives("sensors_owner_digest", digest.0);
    f.gives("sensors_owner_signature", user.sign_recoverable(&digest.0));

    let node = f.key("node", 0x21);
    let account = f.key("node_account", 0x22);
    let addresses = ["/ip4/127.0.0.1/tcp/4001", "/dns4/node.example.org/tcp/4001"];
    let declaration = NodeDeclaration {
        public_key: node.public(),
        account: account.address(),
        peer_key: f.array("node_peer_key", [0x77; 32]),
        peer_proof: f.array("node_peer_proof", [0x78; 64]),
        name: f.text("node_name", "operator-1"),
        addresses: f.texts("node_addresses", &addresses),
        revision: f.number("node_revision", 0) as u32,
    };
    let encoding = declaration.encode();
    assert_eq!(
        NodeDeclaration::decode(&encoding).as_ref(),
        Ok(&declaration)
    );
    f.gives("node_declaration", &encoding);
    f.gives(
        "node_peer_binding_digest",
        peer_binding_digest(
            &d,
            &node.id(),
            &declaration.public_key,
            &declaration.account,
        )
        .0,
    );
    f.gives("node_declaration_digest", declaration.digest().0);
    let count = f.number("node_count", 4);
    let digest = node_owner_digest(&d, &node.id(), &owner, &declaration.digest(), count);
    f.gives("node_owner_digest", digest.0);
    f.gives("node_owner_signature", user.sign_recoverable(&digest.0));
    let digest = node_registration_digest(&d, &owner, &node.id(), &declaration.digest());
    f.gives("node_registration_digest", digest.0);
    f.gives(
        "node_registration_signature",
        node.sign_recoverable(&digest.0),
    );
    f.finish();
}
