//! The comments of the proto files.

use std::collections::HashMap;

use prost_reflect::DescriptorPool;

/// The comments, by file and by place in it.
pub struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    /// Collects them.
    pub fn new(pool: &DescriptorPool) -> Self {
        let mut comments = HashMap::new();
        for file in pool.file_descriptor_protos() {
            let places = file.source_code_info.iter().flat_map(|info| &info.location);
            for place in places {
                let text: Vec<_> = place.leading_comments().lines().map(str::trim).collect();
                let text = text.join("\n").trim().to_owned();
                if !text.is_empty() {
                    comments.insert((file.name().to_owned(), place.path.clone()), text);
                }
            }
        }
        Self(comments)
    }

    /// The comment at a place; empty where there is none.
    pub fn of(&self, file: &str, path: &[i32]) -> &str {
        let comment = self.0.get(&(file.to_owned(), path.to_vec()));
        comment.map(String::as_str).unwrap_or_default()
    }
}
