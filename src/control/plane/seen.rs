//! The control plane as the API sees it.

use std::sync::Arc;

use super::ControlPlane;
use crate::control::api::plane::Plane;
use crate::control::command::{Command, Refusal};
use crate::control::view::{
    CountersView, DriftView, DropView, InfoView, InterfaceView, ServiceView, TimeoutsView, TunableView,
};
use crate::director::Director;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::time::Time;

/// Each by the method of the same name.
macro_rules! same {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self $(, $arg: $kind)*) -> $result { ControlPlane::$name(self $(, $arg)*) })*
    };
}

impl Plane for ControlPlane {
    fn apply_each(&mut self, commands: &[Command]) -> Vec<Result<(), Refusal>> {
        ControlPlane::apply_each(self, commands)
    }

    fn apply_all(&mut self, commands: &[Command]) -> Result<(), (usize, Refusal)> {
        ControlPlane::apply_all(self, commands)
    }

    fn reload(&mut self, dry_run: bool) -> Result<Vec<String>, Refusal> {
        ControlPlane::reload(self, dry_run)
    }

    fn now(&self) -> Time {
        self.host.now()
    }

    same! {
        fn services() -> Vec<ServiceView>;
        fn service(key: &ServiceKey) -> Option<ServiceView>;
        fn info() -> InfoView;
        fn counters() -> CountersView;
        fn drops() -> Vec<DropView>;
        fn interfaces() -> Vec<InterfaceView>;
        fn tunables() -> Vec<TunableView>;
        fn timeouts() -> TimeoutsView;
        fn marks() -> Vec<MarkRule>;
        fn drift() -> Result<DriftView, Refusal>;
        fn save() -> String;
        fn director() -> &Arc<Director>;
    }
}
