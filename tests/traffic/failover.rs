//! Another director that knows nothing of the connections: with a choice that is a function of the client, they go on.

use crate::client::{self, connect, patiently};
use crate::lab::{self, DR, Lab, NAT};
use crate::xvs::{Xvs, config, dr, nat};

#[test]
fn connections_outlive_their_director_where_the_choice_is_the_clients() {
    for (service, vip, scheduler) in [(nat(), NAT, "mh"), (dr(), DR, "sh")] {
        let lab = Lab::new();
        let service =
            service.replace("scheduler = \"rr\"", &format!("scheduler = \"{scheduler}\"\nsloppy_tcp = true"));
        let director = || Xvs::start(&lab, &config(std::slice::from_ref(&service)));
        let first = director();
        client::run(&lab, async || {
            let mut wires = Vec::new();
            for number in 0..lab::CLIENTS {
                let mut wire = connect(lab::client(number.into()), vip).await.expect("connected");
                let name = patiently(wire.ask("name")).await.expect("name");
                wires.push((wire, name));
            }
            first.stop();
            let _second = director();
            for (mut wire, name) in wires {
                let again = patiently(wire.ask("name")).await.expect("the connection goes on");
                assert_eq!(again, name, "{vip} by {scheduler}");
            }
        });
    }
}
