//! The chain of a devnet: start it, deploy the contracts, and give accounts what they need to pay gas.

use std::time::Duration;

use diversity_chain::fees::FeePolicy;
use diversity_chain::rpc::{Call, Receipt, Rpc, RpcConfig};
use diversity_chain::{Account, Deploying, Unsigned};
use diversity_proto::{Address, Digest};

use super::super::output::{Context, FAILED, Failure, Outcome, UNREACHABLE};
use super::state::{CHAIN, Contract, Folder, State};
use super::{LOOK_EVERY, await_ready, process};

/// How long a transaction may take until it is mined.
const MINED_WITHIN: Duration = Duration::from_secs(120);
/// How long anvil may take to write its state.
const SAVED_WITHIN: Duration = Duration::from_secs(20);

/// A client of the chain.
pub fn client(state: &State) -> Outcome<Rpc> {
    let mut config = RpcConfig::new(state.chain.rpc_urls());
    let (ca_file, token_file) = state.chain.rpc_files();
    let pem = ca_file.map(|path| std::fs::read(path).context(path.display()));
    config.ca_pem = pem.transpose()?;
    config.token_file = token_file.map(Into::into);
    config.chain_id = Some(state.chain.chain_id()).filter(|id| *id != 0);
    Rpc::new(&config).context("the chain")
}

/// Whether the chain answers.
pub async fn answers(state: &State) -> bool {
    match client(state) {
        Ok(rpc) => rpc.head().await.is_ok(),
        Err(_) => false,
    }
}

/// Starts the devnet's own chain if it does not run, and waits until it answers.
pub async fn start(folder: &Folder, state: &mut State) -> Outcome {
    let Some(mut anvil) = folder.anvil(&state.chain) else {
        return match client(state)?.head().await {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::new(
                UNREACHABLE,
                format_args!("the chain at {}: {error}", state.chain.shown()),
            )),
        };
    };
    if state.chain.process().is_some_and(|p| p.runs()) && answers(state).await {
        return Ok(());
    }
    if let Some(process) = state.chain.process() {
        // One that runs but does not answer is not ours to wait for.
        process
            .signal(rustix::process::Signal::KILL)
            .context("cannot end the chain")?;
        super::gone(&[process], super::END_WITHIN).await;
    }
    anvil.prepare_state().context("cannot start the chain")?;
    let log = process::Log::from_here(folder.log(CHAIN));
    let (process, _child) = process::start(&anvil.program, &anvil.arguments(), &[], &log)
        .context(format_args!("cannot start {}", anvil.program.display()))?;
    state.chain.set_process(Some(process.clone()));
    folder.save(state)?;
    // A port of the devnet that somebody else has taken meanwhile would answer in its place: ask only while ours runs.
    let rpc = client(state)?;
    await_ready("the chain", &process, &log, async || {
        rpc.head().await.map(drop)
    })
    .await?;
    anvil.set_clock(&rpc).await.context("the chain")
}

/// Deploys libraries, `MainContract` and `Cells`, as far as they do not stand already.
pub async fn deploy(folder: &Folder, state: &mut State, account: &Account) -> Outcome {
    let rpc = client(state)?;
    for address in &state.placed {
        let code = rpc
            .code(address)
            .await
            .context("cannot look for the contracts")?;
        if code.is_empty() {
            return Err(Failure::new(
                FAILED,
                format_args!(
                    "the chain has lost the contract {address}: it is another chain than this devnet was made for; remove the folder and start anew"
                ),
            ));
        }
    }
    if state.contract.is_some() {
        return Ok(());
    }
    let mut deploying = Deploying::after(state.placed.clone());
    while let Some((name, code)) = deploying.next() {
        let receipt = transact(&rpc, state.chain.chain_id(), account, None, code, 0).await?;
        let address = receipt.contract.ok_or_else(|| {
            Failure::new(
                FAILED,
                format_args!("the chain does not say where it put {name}"),
            )
        })?;
        deploying.placed(address);
        state.placed.push(address);
        state.from_block.get_or_insert(receipt.block_number);
        // One that was placed is not placed again when this is cut off.
        folder.save(state)?;
    }
    let contracts = deploying.contracts().expect("all are placed");
    state.contract = Some(Contract {
        address: contracts.main,
        cells: contracts.cells,
        block: state.from_block.unwrap_or(0),
    });
    saved(folder, state).await?;
    folder.save(state)
}

/// Waits until anvil has everything so far in its file, so that no SIGKILL takes it back.
pub async fn saved(folder: &Folder, state: &State) -> Outcome {
    match folder.anvil(&state.chain) {
        Some(anvil) => anvil.saved(SAVED_WITHIN).await.context("the chain"),
        None => Ok(()),
    }
}

/// Brings an account up to `wei`, where gas has a price. Without a funder an account that has something goes on with that:
/// how much is left, the nodes themselves tell.
pub async fn fund(state: &State, from: Option<&Account>, to: &Address, wei: u128) -> Outcome {
    let rpc = client(state)?;
    let balance = rpc.balance(to).await.context("cannot ask for a balance")?;
    if balance >= wei || from.is_none() && balance > 0 {
        return Ok(());
    }
    let from = from.ok_or_else(|| {
        Failure::new(
            FAILED,
            format_args!(
                "account {to} of a node has nothing, and the chain wants gas: give --funder KEYSTORE with --password-file FILE, or send it something"
            ),
        )
    })?;
    let receipt = transact(
        &rpc,
        state.chain.chain_id(),
        from,
        Some(*to),
        Vec::new(),
        wei - balance,
    )
    .await?;
    if receipt.success {
        Ok(())
    } else {
        Err(Failure::new(
            FAILED,
            format_args!("the transfer to {to} failed"),
        ))
    }
}

/// Whether gas costs anything there.
pub async fn wants_gas(state: &State) -> Outcome<bool> {
    let rpc = client(state)?;
    let head = rpc.head().await.context("the chain")?;
    Ok(match head.base_fee {
        Some(base) => base > 0,
        None => rpc.gas_price().await.context("the chain")? > 0,
    })
}

/// Sends one transaction and waits until it is mined.
async fn transact(
    rpc: &Rpc,
    chain_id: u64,
    account: &Account,
    to: Option<Address>,
    data: Vec<u8>,
    value: u128,
) -> Outcome<Receipt> {
    let head = rpc.head().await.context("the chain")?;
    let suggested = match head.base_fee {
        None => Some(rpc.gas_price().await.context("the chain")?),
        Some(_) => None,
    };
    let policy = FeePolicy::default();
    let fees = policy.fees(&head, suggested, 0);
    let call = Call {
        from: account.address(),
        to,
        data,
    };
    let gas = rpc
        .estimate_gas(&call)
        .await
        .context("the chain would refuse the transaction")?;
    let unsigned = Unsigned {
        chain_id,
        nonce: rpc
            .transaction_count(&account.address())
            .await
            .context("the chain")?,
        to,
        value,
        data: &call.data,
        gas_limit: policy
            .gas_limit(gas, head.gas_limit)
            .context("the transaction")?,
        fees,
    };
    let balance = rpc.balance(&account.address()).await.context("the chain")?;
    let needed = fees
        .most()
        .saturating_mul(unsigned.gas_limit.into())
        .saturating_add(value);
    diversity_chain::fees::check_balance(&account.address(), balance, needed)
        .context("cannot pay (give --funder KEYSTORE with --password-file FILE)")?;
    let (raw, tx) = account.sign(&unsigned);
    rpc.send_raw(&raw, true)
        .await
        .context("the chain refused the transaction")?;
    let receipt = mined(rpc, &tx).await?;
    if receipt.success {
        Ok(receipt)
    } else {
        Err(Failure::new(
            FAILED,
            format_args!("transaction {tx} was mined and reverted"),
        ))
    }
}

async fn mined(rpc: &Rpc, tx: &Digest) -> Outcome<Receipt> {
    let deadline = tokio::time::Instant::now() + MINED_WITHIN;
    loop {
        match rpc.receipt(tx).await {
            Ok(Some(receipt)) => return Ok(receipt),
            Ok(None) => {}
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(Failure::new(FAILED, format_args!("the chain: {error}"))),
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Failure::new(
                UNREACHABLE,
                format_args!(
                    "transaction {tx} is not mined after {} s: does the chain make blocks?",
                    MINED_WITHIN.as_secs()
                ),
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
