//! `zonecast call`: any method of any service, by its descriptors. No code here knows a method.

use std::{
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use prost::{
    Message,
    bytes::{Buf, BufMut, Bytes},
};
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::AsciiMetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::cli::CallArgs;

/// Runs the command.
///
/// # Errors
/// There is no such method, the request is none of its, the services cannot be reached, or they refuse the call.
pub(crate) async fn run(args: CallArgs) -> anyhow::Result<()> {
    let pool = DescriptorPool::decode(zonecast_api::DESCRIPTORS).context("the descriptors cannot be read")?;
    let Some(name) = &args.method else { return list(&pool) };
    let method = find(&pool, name)?;
    let request = request(&args, &method)?;
    let mut grpc = Grpc::new(connect(&args).await?);
    grpc.ready().await.context("the services cannot be reached")?;
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name()).parse()?;
    // Whether one message comes or many is told by the stream's end.
    let answered = grpc.server_streaming(request, path, Raw).await.map_err(|status| refused(&status))?;
    let mut answers = answered.into_inner();
    while let Some(bytes) = answers.message().await.map_err(|status| refused(&status))? {
        let message = DynamicMessage::decode(method.output(), bytes).context("the answer cannot be read")?;
        print(&args, &message)?;
    }
    Ok(())
}

fn list(pool: &DescriptorPool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        writeln!(out, "{}/{}", method.parent_service().full_name(), method.name())?;
    }
    Ok(())
}

/// The method of a name: `zonecast.users.v1.UsersService/GetUser`, or `users/GetUser`.
fn find(pool: &DescriptorPool, name: &str) -> anyhow::Result<MethodDescriptor> {
    let (service, method) = name.split_once('/').context("a method is SERVICE/METHOD, such as users/GetUser")?;
    let is_meant = |full: &str| full == service || full.split('.').nth(1) == Some(service);
    let all = || {
        pool.services()
            .filter(|known| is_meant(known.full_name()))
            .flat_map(|known| known.methods().collect::<Vec<_>>())
    };
    let found = all().find(|known| known.name().eq_ignore_ascii_case(method));
    found.ok_or_else(|| {
        let known: Vec<String> = all().map(|known| known.name().to_owned()).collect();
        match known.as_slice() {
            [] => anyhow!("there is no service {service:?}; `zonecast call` lists all methods"),
            known => anyhow!("{service:?} has no method {method:?}; it has {}", known.join(", ")),
        }
    })
}

fn request(args: &CallArgs, method: &MethodDescriptor) -> anyhow::Result<Request<Bytes>> {
    let json = match args.request.as_str() {
        "-" => {
            let mut text = String::new();
            io::stdin().lock().read_to_string(&mut text).context("standard input cannot be read")?;
            text
        }
        given => given.to_owned(),
    };
    let mut reader = serde_json::Deserializer::from_str(&json);
    let options = DeserializeOptions::new();
    let message = DynamicMessage::deserialize_with_options(method.input(), &mut reader, &options);
    let message = message.and_then(|message| reader.end().map(|()| message));
    let message = message.with_context(|| format!("the request is no {}", method.input().full_name()))?;
    let mut request = Request::new(Bytes::from(message.encode_to_vec()));
    if !method.is_server_streaming() {
        request.set_timeout(Duration::from_secs(args.timeout));
    }
    if let Some(token) = &args.token {
        let bearer = AsciiMetadataValue::try_from(format!("Bearer {token}")).context("the token is no token")?;
        request.metadata_mut().insert("authorization", bearer);
    }
    Ok(request)
}

async fn connect(args: &CallArgs) -> anyhow::Result<Channel> {
    let Some(ca) = &args.ca else {
        bail!("no authority to trust: give --ca FILE or set ZONECAST_CA; `zonecast cert` and `zonecast dev` make one");
    };
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let name = args.server_name.as_ref().unwrap_or(&args.services.host);
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)).domain_name(name);
    if let Some((certificate, key)) = args.cert.as_deref().zip(args.key.as_deref()) {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", args.services))?.tls_config(tls)?;
    let endpoint = endpoint.connect_timeout(Duration::from_secs(args.timeout));
    endpoint.connect().await.with_context(|| format!("the services at {} cannot be reached", args.services))
}

/// The code by its name, as the contract has it, and the words.
fn refused(status: &Status) -> anyhow::Error {
    let code = match status.code() {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    };
    anyhow!("{code}: {}", status.message())
}

fn print(args: &CallArgs, message: &DynamicMessage) -> anyhow::Result<()> {
    let options = SerializeOptions::new().skip_default_fields(false);
    let value = message.serialize_with_options(serde_json::value::Serializer, &options)?;
    let text = match &args.field {
        None if args.pretty => serde_json::to_string_pretty(&value)?,
        None => value.to_string(),
        Some(path) => match at(&value, path) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => bail!("the answer has no field {path:?}: {value}"),
        },
    };
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

/// The field at a path, its names as the contract or as JSON has them.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    path.split('.').try_fold(value, |value, name| match value {
        Value::Object(fields) => fields.iter().find(|(key, _)| plain(key) == plain(name)).map(|(_, value)| value),
        Value::Array(values) => values.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let remaining = from.remaining();
        Ok(Some(from.copy_to_bytes(remaining)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_found_by_both_names_and_others_are_told_what_there_is() {
        let pool = DescriptorPool::decode(zonecast_api::DESCRIPTORS).unwrap();
        for name in ["zonecast.users.v1.UsersService/GetUser", "users/GetUser", "users/getuser"] {
            assert_eq!(find(&pool, name).unwrap().full_name(), "zonecast.users.v1.UsersService.GetUser", "{name}");
        }
        let refused = find(&pool, "users/Get").unwrap_err().to_string();
        assert!(refused.contains("GetUser") && refused.contains("DeleteUser"), "{refused}");
        for (bad, word) in [("GetUser", "SERVICE/METHOD"), ("nothing/Get", "lists all")] {
            let refused = find(&pool, bad).unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }

    #[test]
    fn fields_are_found_under_either_name() {
        let value = serde_json::json!({"user": {"createdAt": "1"}, "list": [{"id": 7}]});
        assert_eq!(at(&value, "user.created_at"), Some(&Value::from("1")));
        assert_eq!(at(&value, "user.createdAt"), Some(&Value::from("1")));
        assert_eq!(at(&value, "list.0.id"), Some(&Value::from(7)));
        assert_eq!(at(&value, "user.nothing"), None);
    }
}
