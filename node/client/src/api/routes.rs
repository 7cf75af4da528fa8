//! The table of routes: what the daemon serves, what `/openapi.json` lists, and what each needs.

/// What a token allows; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// No token needed.
    Public,
    /// Send what proves itself (frames), and hear up to where it is held: what a device or a gateway needs.
    Ingest,
    /// See everything.
    Read,
    /// Register, upload code, accept and create agreements: whatever makes the node sign or pay gas.
    Operate,
    /// Bind the node to an owner.
    Admin,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `PUT` or `POST`.
    pub method: &'static str,
    /// Path with `{parameters}`, as axum and OpenAPI write them.
    pub path: &'static str,
    /// What the token must allow.
    pub scope: Scope,
    /// What it does.
    pub summary: &'static str,
    /// Type of the request's body in [`crate::api`], or a media type; empty for none.
    pub request: &'static str,
    /// Type of the answer, or a media type.
    pub response: &'static str,
}

const fn get(
    path: &'static str,
    scope: Scope,
    response: &'static str,
    summary: &'static str,
) -> Route {
    Route {
        method: "GET",
        path,
        scope,
        summary,
        request: "",
        response,
    }
}

const fn post(
    path: &'static str,
    scope: Scope,
    request: &'static str,
    response: &'static str,
    summary: &'static str,
) -> Route {
    Route {
        method: "POST",
        path,
        scope,
        summary,
        request,
        response,
    }
}

use Scope::{Admin, Ingest, Operate, Public, Read};

/// Every route of a node.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    get("/v1/info", Read, "Info", "Who this node is, its peers, how it sees the chain, and where each agreement stands"),

    post("/v1/users", Operate, "UserRegistration", "UserView", "Relay a user's signed registration; answers once it stands on chain"),
    get("/v1/users", Read, "Page<UserView>", "Registered users, ascending by address. Query: cursor, limit"),
    get("/v1/users/{user}", Read, "UserView", "One user, or 404"),

    post("/v1/sensors", Operate, "SensorRegistrations", "SensorsRegistered", "Relay the registration of 1 to 64 sensors of one owner in one transaction; answers once they stand on chain"),
    get("/v1/sensors", Read, "Page<SensorView>", "Registered sensors, ascending by address. Query: owner, cursor, limit"),
    get("/v1/sensors/{sensor}", Read, "SensorView", "One sensor: declaration, owner, next q, epoch, last frame, and from which q it is void; or 404"),

    post("/v1/nodes/binding", Admin, "BindingRequest", "NodeBinding", "This node's declaration, and its consent to be registered by this owner"),
    post("/v1/nodes", Operate, "NodeRegistration", "NodeView", "Relay a node's registration or a new revision; answers once it stands on chain"),
    get("/v1/nodes", Read, "Page<NodeView>", "Registered nodes, ascending by id. Query: cursor, limit"),
    get("/v1/nodes/{node}", Read, "NodeView", "One node, or 404"),

    Route { method: "PUT", path: "/v1/code/{sha256}", scope: Operate, summary: "Store a WASM module after checking its hash, its imports (none), its exports and its limits", request: "application/wasm", response: "CodeView" },
    get("/v1/code/{sha256}", Read, "application/wasm", "A stored module, or 404"),

    post("/v1/agreements/accept", Operate, "AcceptRequest", "NodeAcceptance", "This node's signature of acceptance, after it has checked the terms, a, that the owners of the sensors agree, and that it can run the module; all of it is durable here before"),
    post("/v1/agreements", Operate, "AgreementCreation", "AgreementView", "Create an agreement on chain from the signatures of all users and the acceptances of all nodes; answers once it stands there and runs on this node"),
    get("/v1/agreements", Read, "Page<AgreementSummary>", "Agreements that name this node, ascending by a; `accepted` says whether it runs them. Query: cursor, limit"),
    get("/v1/agreements/{a}", Read, "AgreementView", "Terms, keys and progress of one agreement, or 404"),
    post("/v1/agreements/{a}/close", Operate, "CloseRequest", "AgreementView", "Close an agreement: executions from `end` on never settle"),
    post("/v1/agreements/{a}/resolve", Operate, "ResolveRequest", "ResolutionView", "Relay what all users say of t, in band or as a cell; answers once it stands on chain"),
    post("/v1/agreements/{a}/reread", Operate, "RereadRequest", "AgreementView", "Let this node read the hole at t once more; it does once the operators of all nodes have asked"),
    get("/v1/agreements/{a}/results", Read, "ResultsPage", "Settled executions with the fields that the terms name, ascending by t. Query: from (first t, 0), limit (100)"),
    get("/v1/agreements/{a}/windows/{t}", Read, "WindowView", "A window as this node holds it: JSON; with Accept: application/octet-stream its bytes, or with ?part=input too the whole input of f (carry and window)"),
    get("/v1/agreements/{a}/disputes", Read, "Page<DisputeView>", "Disputes of one agreement, newest first. Query: cursor, limit"),

    post("/v1/messages", Ingest, "application/octet-stream (proto::wire::encode_frames) or JsonFrames", "Acknowledgement", "Take in signed frames; answers when each is durable or refused"),
    get("/v1/messages/acknowledged", Ingest, "Acknowledgement", "Up to where this node holds these sensors' messages. Query: sensor (comma-separated, 1 to 256)"),

    get("/v1/disputes", Read, "Page<DisputeView>", "Disputes that the chain holds: those that concern this node, then those of strangers, each newest first. Query: cursor, limit"),
    get("/v1/disputes/{d}", Read, "DisputeView", "One dispute in words, or 404"),
    post("/v1/disputes/{d}/reread", Operate, "", "AgreementView", "The same, for the hole that this dispute records"),
    get("/v1/disputes/{d}/evidence", Read, "EvidenceBundle", "Everything needed to re-run the disputed execution and to see who lied"),

    get("/v1/chain/skipped", Read, "Vec<SkippedView>", "The newest entries of the chain that this node does not believe, oldest first, 256 at most: each with the reason"),

    get("/v1/events", Read, "text/event-stream (Event)", "Server-sent events from now on. Query: agreement"),

    get("/healthz", Public, "text/plain", "200 while the process runs"),
    get("/readyz", Public, "text/plain", "200 once store, network and chain are up; 503 with the reason otherwise"),
    get("/metrics", Public, "text/plain", "OpenMetrics"),
    get("/openapi.json", Public, "application/json", "This table as OpenAPI 3.1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_is_listed_twice() {
        for (i, route) in ROUTES.iter().enumerate() {
            let same = |r: &&Route| (r.method, r.path) == (route.method, route.path);
            assert_eq!(ROUTES[i..].iter().filter(same).count(), 1, "{}", route.path);
        }
    }
}
