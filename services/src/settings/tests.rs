use super::*;

fn args(product_url: Option<&str>, http_proxy: Option<&str>, timeout: u64) -> Args {
    Args {
        host: IpAddr::from([127, 0, 0, 1]),
        port: None,
        data_dir: "data".into(),
        event_log: None,
        product_url: product_url.map(Into::into),
        http_proxy: http_proxy.map(Into::into),
        stock_check_timeout_ms: timeout,
        payment_url: None,
        payment_timeout_ms: 610,
        payment_delay_ms: None,
        payment_capacity: None,
    }
}

#[test]
fn behind_a_proxy_others_are_asked_by_their_names() {
    let settings = Settings::new(Service::Order, args(None, Some("http://127.0.1.1:15001"), 500)).unwrap();
    assert_eq!(settings.product.url, "http://product:8080");
    assert_eq!(settings.payment.url, "http://payment:8080");
    assert_eq!(settings.payment.timeout, Duration::from_millis(610));
    assert_eq!(settings.listen.port(), 8081);
    assert_eq!(settings.data, PathBuf::from("data/order"));
    assert_eq!(settings.event_log, PathBuf::from("data/events"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut args = args(Some("product"), Some("https://x"), 0);
    args.payment_url = Some("ftp://payment".into());
    args.payment_timeout_ms = 60_001;
    args.payment_delay_ms = Some("620..400".into());
    args.payment_capacity = Some(0);
    let error = Settings::new(Service::Order, args).unwrap_err().to_string();
    for part in [
        "PRODUCT_URL",
        "HTTP_PROXY",
        "STOCK_CHECK_TIMEOUT_MS",
        "PAYMENT_URL",
        "PAYMENT_TIMEOUT_MS",
        "PAYMENT_DELAY_MS: 620..400 ends before it begins",
        "PAYMENT_CAPACITY",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn a_delay_is_a_number_or_a_range_with_both_its_ends() {
    assert_eq!(delay("400..620"), Ok(400..=620));
    assert_eq!(delay("500"), Ok(500..=500));
    assert_eq!(delay("0"), Ok(0..=0));
    for wrong in ["", "fast", "400..", "-1", "400-620", "1..2..3", "60001"] {
        assert!(delay(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_unknown_service_is_told_the_known_ones() {
    assert_eq!("payment".parse(), Ok(Service::Payment));
    assert!("marketing".parse::<Service>().unwrap_err().contains("order, delivery, product, payment"));
}
