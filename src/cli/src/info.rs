//! `adaptmedseg info`: what a model or an image is, and which devices there are.

use crate::args::InfoArgs;
use crate::failure::Result;
use crate::report::{geometry_json, model_json, text};
use adaptmedseg_segment::volume::{self, ImageInfo};
use adaptmedseg_segment::{Description, DeviceInfo, EngineOptions, Model, devices};
use serde_json::json;
use std::path::Path;

/// Prints the description.
pub(crate) fn run(args: &InfoArgs) -> Result<()> {
    let description = match (&args.model, &args.image) {
        (Some(path), _) => model(path, args.json)?,
        (None, Some(path)) => image(path, args.json)?,
        (None, None) => devices_text(args.json),
    };
    crate::print(&description)
}

fn devices_text(as_json: bool) -> String {
    let devices = devices();
    if as_json {
        return text(&json!(devices));
    }
    let memory = |bytes: Option<u64>| bytes.map_or(String::new(), |bytes| format!(", {} MB", bytes >> 20));
    let line =
        |device: &DeviceInfo| format!("{:<14} {}{}\n", device.name, device.description, memory(device.memory_bytes));
    devices.iter().map(line).collect()
}

fn model(path: &Path, as_json: bool) -> Result<String> {
    let model = Model::open(path, &EngineOptions::default())?;
    let description = model.description();
    if !as_json {
        return Ok(model_text(description));
    }
    let mut value = model_json(description, path);
    value["device"] = json!(description.device);
    value["engine"] = json!(description.engine);
    value["threads"] = json!(description.threads);
    value["precision"] = json!(description.precision);
    value["config"] = json!(model.config());
    Ok(text(&value))
}

fn model_text(model: &Description) -> String {
    let [depth, height, width] = model.image_size;
    format!(
        "name        {}\nlicence     {}\nwindow      {depth} x {height} x {width} voxels (depth, height, width)\n\
         parameters  {:.1} million\nweights     {:.1} MB\ntext        {}\ndevice      {} ({}, {} threads)\n",
        model.name,
        model.license,
        model.parameters as f64 / 1e6,
        model.weight_bytes as f64 / 1e6,
        if model.supports_text { "yes" } else { "no: the folder has no tokenizer.json" },
        model.device,
        model.engine,
        model.threads,
    )
}

fn image(path: &Path, as_json: bool) -> Result<String> {
    let info = volume::read_info(path)?;
    if !as_json {
        return Ok(image_text(&info));
    }
    Ok(text(&json!({
        "path": path,
        "format": info.format,
        "scalar": info.scalar.name(),
        "channels": info.channels,
        "geometry": geometry_json(&info.geometry),
    })))
}

fn image_text(info: &ImageInfo) -> String {
    let geometry = &info.geometry;
    let join = |values: [String; 3], between: &str| values.join(between);
    let number = |value: f64| {
        let text = format!("{value:.6}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if text == "-0" { "0".to_owned() } else { text.to_owned() }
    };
    let numbers = |values: [f64; 3]| values.map(number);
    format!(
        "format     {}\nvoxels     {} of {}\nchannels   {}\nspacing    {} mm\norigin     ({}) mm, LPS\n\
         direction  [{}], LPS\naxes       {}\n",
        info.format,
        join(geometry.size.map(|size| size.to_string()), " x "),
        info.scalar.name(),
        info.channels,
        join(numbers(geometry.spacing), " x "),
        join(numbers(geometry.origin), ", "),
        geometry.direction.map(|row| join(numbers(row), ", ")).join("; "),
        geometry.axis_codes(),
    )
}
