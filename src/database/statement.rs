//! Hot statements: SQL that is prepared once for each connection and runs in one round trip.

/// Declares a statement whose fields are the columns of a first CTE, `input`, and whose text goes
/// on from there. Its static query id lets the connection keep the prepared form, which
/// `diesel::sql_query` never does.
///
/// A statement for `many` has arrays of the same length as fields, and `input` has a row for each of
/// their places, with what all of them have in common. How many there are does not change the plan.
macro_rules! statement {
    // Two forms of one statement, which `$form` tells apart: the first is that of `true`.
    (
        $(#[$doc:meta])*
        $name:ident<$life:lifetime, $form:ident> -> $row:ty {
            $($field:ident: $rust:ty => $sql:ty),* $(,)?
        }
        $text:expr, $other:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        struct $name<$life, const $form: bool> {
            $($field: $rust,)*
            life: std::marker::PhantomData<&$life ()>,
        }

        impl<const $form: bool> diesel::query_builder::QueryId for $name<'_, $form> {
            type QueryId = $name<'static, $form>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl<const $form: bool> diesel::query_builder::Query for $name<'_, $form> {
            type SqlType = $row;
        }

        impl<const $form: bool> diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name<'_, $form> {
            $crate::database::statement::statement!(@walk "input AS (", { $($field => $sql),* } ")",
                if $form { $text } else { $other });
        }
    };
    (
        $(#[$doc:meta])*
        $name:ident<$life:lifetime> -> $row:ty {
            $($field:ident: $rust:ty => $sql:ty),* $(,)?
        }
        $text:expr
    ) => {
        $crate::database::statement::statement!(@one $(#[$doc])* $name<$life> -> $row {
            $($field: $rust => $sql),*
        } "input AS (", ")", $text);
    };
    (
        $(#[$doc:meta])*
        $name:ident<$life:lifetime> of many, $common:literal -> $row:ty {
            $($field:ident: $rust:ty => $sql:ty),* $(,)?
        }
        $text:expr
    ) => {
        $crate::database::statement::statement!(@one $(#[$doc])* $name<$life> -> $row {
            $($field: $rust => $sql),*
        } "many AS MATERIALIZED (", concat!("), input AS (SELECT ",
            $("unnest(", stringify!($field), ") AS ", stringify!($field), ", ",)*
            $common, " FROM many)"), $text);
    };
    (@one
        $(#[$doc:meta])*
        $name:ident<$life:lifetime> -> $row:ty {
            $($field:ident: $rust:ty => $sql:ty),*
        }
        $begin:expr, $end:expr, $text:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        struct $name<$life> {
            $($field: $rust,)*
            life: std::marker::PhantomData<&$life ()>,
        }

        impl diesel::query_builder::QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl diesel::query_builder::Query for $name<'_> {
            type SqlType = $row;
        }

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name<'_> {
            $crate::database::statement::statement!(@walk $begin, { $($field => $sql),* } $end, $text);
        }
    };
    (@walk $begin:expr, { $($field:ident => $sql:ty),* } $end:expr, $text:expr) => {
        fn walk_ast<'b>(
            &'b self,
            mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
        ) -> diesel::QueryResult<()> {
            out.push_sql(concat!("WITH RECURSIVE ", $begin, "SELECT "));
            let mut separator = "";
            $(
                out.push_sql(separator);
                separator = ", ";
                out.push_bind_param::<$sql, _>(&self.$field)?;
                out.push_sql(concat!(" AS ", stringify!($field)));
            )*
            let _ = separator;
            out.push_sql($end);
            out.push_sql($text);
            Ok(())
        }
    };
}

pub(crate) use statement;
