//! `/openapi.json`: the table of routes as OpenAPI 3.1.

use axum::Json;
use diversity_client::api::{ROUTES, Route, Scope};
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    Required, ResponseBuilder, Schema, Type,
};

const BEARER: &str = "token";

/// `GET /openapi.json`.
pub async fn serve() -> Json<OpenApi> {
    Json(document())
}

fn document() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in ROUTES {
        paths = paths.path(
            route.path,
            PathItem::new(method(route), operation(route).build()),
        );
    }
    let mut components = ComponentsBuilder::new()
        .security_scheme(
            BEARER,
            SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
        )
        .schema("Problem", problem());
    for route in ROUTES {
        for name in [route.request, route.response] {
            if is_type(name) {
                let text =
                    format!("See `{name}` in the diversity-client crate, whose JSON this is.");
                components = components.schema(
                    schema_name(name),
                    ObjectBuilder::new().description(Some(text)),
                );
            }
        }
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("DIVERSITY node")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("Byte strings are hexadecimal with 0x, times are Unix seconds, errors are RFC 9457 problem documents.")),
        )
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}

fn method(route: &Route) -> HttpMethod {
    match route.method {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        _ => HttpMethod::Get,
    }
}

fn operation(route: &Route) -> OperationBuilder {
    let mut operation = OperationBuilder::new().summary(Some(route.summary));
    for name in route
        .path
        .split('/')
        .filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'))
    {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                .build(),
        );
    }
    if let Some((_, names)) = route.summary.split_once("Query: ") {
        for name in names
            .split(", ")
            .filter_map(|n| n.split([' ', '(']).next())
            .filter(|n| !n.is_empty())
        {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Query)
                    .required(Required::False)
                    .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                    .build(),
            );
        }
    }
    if !route.request.is_empty() {
        let body = RequestBodyBuilder::new()
            .required(Some(Required::True))
            .content(media(route.request), content(route.request));
        operation = operation.request_body(Some(body.build()));
    }
    let good = ResponseBuilder::new()
        .description("Success")
        .content(media(route.response), content(route.response));
    let bad = ResponseBuilder::new()
        .description("A problem that says what to do")
        .content(
            "application/problem+json",
            Content::new(Some(Ref::from_schema_name("Problem"))),
        );
    operation = operation.response("200", good).response("default", bad);
    let scope = match route.scope {
        Scope::Public => return operation,
        Scope::Ingest => "ingest",
        Scope::Read => "read",
        Scope::Operate => "operate",
        Scope::Admin => "admin",
    };
    operation
        .security(SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, []))
        .description(Some(format!("Needs a token of scope {scope}.")))
}

/// Whether this is a type of the client crate and no media type.
fn is_type(name: &str) -> bool {
    !name.is_empty() && !name.contains('/')
}

fn schema_name(name: &str) -> String {
    name.replace('<', "Of").replace('>', "")
}

fn media(name: &str) -> &str {
    if is_type(name) {
        "application/json"
    } else {
        name.split(' ').next().unwrap_or(name)
    }
}

fn content(name: &str) -> Content {
    if is_type(name) {
        return Content::new(Some(Ref::from_schema_name(schema_name(name))));
    }
    Content::new(None::<RefOr<Schema>>)
}

fn problem() -> ObjectBuilder {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    ObjectBuilder::new()
        .description(Some("RFC 9457"))
        .property("type", text())
        .property("title", text())
        .property("status", ObjectBuilder::new().schema_type(Type::Integer))
        .property("detail", text())
        .property("code", text().description(Some("Stable")))
        .property("what_to_do", text())
        .required("type")
        .required("title")
        .required("status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_document() {
        let json = serde_json::to_value(document()).expect("plain data");
        assert_eq!(json["openapi"], "3.1.0");
        for route in ROUTES {
            let operation = &json["paths"][route.path][route.method.to_lowercase()];
            assert_eq!(operation["summary"], route.summary, "{}", route.path);
            assert_eq!(
                operation["security"].is_array(),
                route.scope != Scope::Public,
                "{}",
                route.path
            );
        }
        let text = json.to_string();
        for name in text
            .split("#/components/schemas/")
            .skip(1)
            .filter_map(|s| s.split('"').next())
        {
            assert!(
                json["components"]["schemas"][name].is_object(),
                "{name} is not defined"
            );
        }
    }
}
